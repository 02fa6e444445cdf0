"""Serve an exported model at TF Serving's REST paths, with a page for people at /.

Serves the latest version, and newer ones as they appear. SIGTERM and Ctrl-C finish the
requests in progress, then stop the server.
"""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import common, console

if TYPE_CHECKING:
    from keras_inception.server import Manager


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `serve`."""
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, help="saved_models/NAME"
    )
    parser.add_argument("--name", help="the model's name in paths (default: NAME)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine only)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8501,
        help="port to listen on; 0 chooses a free one (default: 8501)",
    )
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
    batching = parser.add_argument_group("batching of concurrent requests")
    batching.add_argument(
        "--max-batch",
        type=int,
        default=32,
        metavar="ROWS",
        help="most rows in a batch; 1 disables batching (default: 32)",
    )
    batching.add_argument(
        "--batch-wait",
        type=float,
        default=1.0,
        metavar="MS",
        help="milliseconds an idle server waits for more requests (default: 1)",
    )
    batching.add_argument(
        "--batch-threads",
        type=int,
        default=2,
        metavar="N",
        help="batches that run at once (default: 2)",
    )
    limits = parser.add_argument_group("limits on requests")
    limits.add_argument(
        "--max-body",
        type=int,
        default=32,
        metavar="MIB",
        help="largest body in MiB (default: 32)",
    )
    limits.add_argument(
        "--max-pixels",
        type=float,
        default=25,
        metavar="MILLIONS",
        help="largest width times height of a picture, in millions (default: 25)",
    )
    limits.add_argument(
        "--max-queue",
        type=int,
        default=64,
        metavar="REQUESTS",
        help="most requests in progress or waiting (default: 64)",
    )
    limits.add_argument(
        "--timeout",
        type=float,
        default=30,
        metavar="SECONDS",
        help="seconds for a body to arrive, and again for the answer (default: 30)",
    )


def run(options: argparse.Namespace) -> None:
    """Serves until a signal stops it."""
    least = {"port": 0, "batch_wait": 0}
    least |= dict.fromkeys(("max_batch", "batch_threads", "max_body", "max_queue"), 1)
    common.check_at_least(options, least)
    for name in ("max_pixels", "timeout"):
        if not getattr(options, name) > 0:
            raise ValueError(
                f"--{name.replace('_', '-')} must be above 0. Received: "
                f"{getattr(options, name)}"
            )
    wanted = _parse_versions(options.versions)
    labels = dict(_parse_label(text) for text in options.label)
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
    print(
        f"serving {manager.name}, version {numbers}\n"
        f"  for people    {address}/\n"
        f"  for programs  {address}/v1/models/{manager.name}:predict",
        flush=True,
    )


def _parse_versions(text: str) -> str | list[int]:
    _check_form(
        "--versions",
        text,
        r"latest|all|\d+(,\d+)*",
        "latest, all, or numbers such as 3,5",
    )
    return text if text in ("latest", "all") else [int(n) for n in text.split(",")]


def _parse_label(text: str) -> tuple[str, int]:
    _check_form("--label", text, r"\w+=\d+", "LABEL=VERSION, such as stable=3")
    label, version = text.split("=")
    return label, int(version)


def _check_form(option: str, text: str, pattern: str, form: str) -> None:
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{option} takes {form}. Received: {text}")
