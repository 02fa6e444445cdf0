"""Serve an exported model at TF Serving's REST paths, with a page for people at /.

Serves the latest version, and newer ones as they appear. SIGTERM and Ctrl-C finish the
requests in progress, then stop the server.
"""

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from keras_inception_cli import common, console

if TYPE_CHECKING:
    from keras_inception.server import Manager


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `serve`."""
    add = parser.add_argument
    add("directory", metavar="DIRECTORY", type=Path, help="saved_models/NAME")
    add("--name", help="the model's name in paths (default: NAME)")
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine only)",
    )
    _add_number(add, "--port", 8501, "PORT", "port to listen on; 0 chooses a free one")
    versions = parser.add_argument_group("versions")
    versions.add_argument(
        "--versions",
        default="latest",
        metavar="WHICH",
        help="versions to serve: latest, all, or numbers such as 3,5 (default: latest)",
    )
    versions.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="LABEL=VERSION",
        help="also serve this version, at .../labels/LABEL; can be repeated",
    )
    group = parser.add_argument_group("batching of concurrent requests")
    number = partial(_add_number, group.add_argument)
    number("--max-batch", 32, "ROWS", "most rows in a batch; 1 disables batching")
    number(
        "--batch-wait", 1.0, "MS", "milliseconds an idle server waits for more requests"
    )
    number("--batch-threads", 2, "N", "batches that run at once")
    group = parser.add_argument_group("limits on requests")
    number = partial(_add_number, group.add_argument)
    number("--max-body", 32, "MIB", "largest body in MiB")
    number("--max-pixels", 25.0, "MILLIONS", "most pixels of a picture, in millions")
    number("--max-queue", 64, "REQUESTS", "most requests in progress or waiting")
    number(
        "--timeout", 30.0, "SECONDS", "seconds for a body to arrive, and for the answer"
    )


def _add_number(
    add: Callable, option: str, default: float, unit: str, effect: str
) -> None:
    help = f"{effect} (default: {default:g})"
    add(option, type=type(default), default=default, metavar=unit, help=help)


def run(options: argparse.Namespace) -> None:
    """Serves until a signal stops it."""
    least = {"port": 0, "batch_wait": 0}
    least |= dict.fromkeys(("max_batch", "batch_threads", "max_body", "max_queue"), 1)
    common.check_at_least(options, least)
    for name in ("max_pixels", "timeout"):
        if not (value := getattr(options, name)) > 0:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be above 0. Received: {value}")
    form = "latest, all, or numbers such as 3,5"
    _check_form("--versions", options.versions, r"latest|all|\d+(,\d+)*", form)
    for text in options.label:
        _check_form("--label", text, r"\w+=\d+", "LABEL=VERSION, such as stable=3")
    wanted = options.versions
    if wanted not in ("latest", "all"):
        wanted = list(map(int, wanted.split(",")))
    pairs = (text.split("=") for text in options.label)
    labels = {label: int(version) for label, version in pairs}
    if not options.directory.is_dir():
        raise FileNotFoundError(f"There is no directory {options.directory}")
    try:
        with console.quiet_start():
            from keras_inception import server
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "prometheus_client"):
            raise
        raise ValueError(
            f"serve needs {error.name}: pip install 'keras-inception[serve]'"
        ) from None
    batching = server.Batching(
        options.max_batch, int(options.batch_wait * 1000), options.batch_threads
    )
    server.serve(
        options.directory,
        host=options.host,
        port=options.port,
        limits=server.Limits(
            options.max_body * 2**20,
            int(options.max_pixels * 1e6),
            options.max_queue,
            options.timeout,
        ),
        batching=batching if options.max_batch > 1 else None,
        started=_print_address,
        name=options.name,
        wanted=wanted,
        labels=labels,
    )


def _print_address(address: str, manager: "Manager") -> None:
    numbers = ", ".join(map(str, manager.available()))
    quoted = quote(manager.name, safe="")
    print(
        f"serving {manager.name}, version {numbers}\n"
        f"  for people    {address}/\n"
        f"  for programs  {address}/v1/models/{quoted}:predict",
        flush=True,
    )


def _check_form(option: str, text: str, pattern: str, form: str) -> None:
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{option} takes {form}. Received: {text}")
