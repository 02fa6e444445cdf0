"""Serve exported models by TF Serving's REST and gRPC, with a page for people at /.

Serves the latest version, waits for the first one, and loads newer ones as they appear.
SIGTERM and Ctrl-C finish the requests in progress, then stop the server.
"""

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from keras_inception_cli import common, console

if TYPE_CHECKING:
    from keras_inception.server import Manager


RUNTIMES = ("tensorflow", "onnx", "openvino")

# Default, unit and effect
BATCHING: dict[str, tuple[Any, str, str]] = {
    "--max-batch": (32, "ROWS", "most rows in a batch; 1 disables batching"),
    "--batch-wait": (
        1.0,
        "MS",
        "milliseconds an idle server waits for more, except after a lone request",
    ),
    "--batch-threads": (2, "N", "batches of a signature that run at once"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `serve`."""
    add = parser.add_argument
    add(
        "directory",
        metavar="DIRECTORY",
        type=Path,
        nargs="?",
        help="saved_models/NAME; or use --model-config-file",
    )
    add("--name", help="the model's name in paths (default: NAME)")
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine only)",
    )
    _add_number(add, "--port", 8501, "PORT", "REST's port; 0 chooses a free one")
    add(
        "--grpc-port",
        type=int,
        metavar="PORT",
        help="gRPC's port; 0 for no gRPC (default: 8500, if it is free)",
    )
    add(
        "--runtime",
        choices=RUNTIMES,
        help="runtime of the model (default: the one that its files are for)",
    )
    add(
        "--explain",
        metavar="MODEL",
        help="the .keras file behind the served version: a switch on the page shows "
        "where in a picture each of its outputs looks",
    )
    add(
        "--early-exit",
        choices=("auto",),
        help="auto: the more requests wait, the earlier the exits of an export answer; "
        "the header Early-Exit-Level of an answer has the level",
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
    files = parser.add_argument_group("TF Serving's configuration files")
    for option, effect in (
        ("model-config", "models, version policies and labels, in place of DIRECTORY"),
        ("monitoring-config", "the path of the metrics"),
        ("batching-parameters", "how requests are batched, of any model"),
    ):
        files.add_argument(f"--{option}-file", type=Path, metavar="FILE", help=effect)
    _add_number(
        files.add_argument,
        "--model-config-file-poll-seconds",
        0.0,
        "SECONDS",
        "seconds between checks of --model-config-file; 0 reads it once",
    )
    group = parser.add_argument_group(
        "batching of concurrent requests",
        "Without these options, only models that this package exported are batched: "
        "answers of others may depend on all rows of a batch.",
    )
    for option, (default, unit, effect) in BATCHING.items():
        group.add_argument(
            option,
            type=type(default),
            metavar=unit,
            help=f"{effect} (default: {default:g})",
        )
    group = parser.add_argument_group("limits on requests")
    number = partial(_add_number, group.add_argument)
    number("--max-body", 32, "MIB", "largest body of a REST request in MiB")
    number("--max-message", 256, "MIB", "largest gRPC message in MiB")
    number("--max-pixels", 25.0, "MILLIONS", "most pixels of a picture, in millions")
    number("--max-queue", 64, "REQUESTS", "most requests in progress or waiting")
    number(
        "--timeout", 30.0, "SECONDS", "seconds for a body to arrive, and for the answer"
    )

    group = parser.add_argument_group("access")
    group.add_argument("--ssl-certfile", type=Path, metavar="FILE", help="TLS: chain")
    group.add_argument("--ssl-keyfile", type=Path, metavar="FILE", help="TLS: its key")
    group.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="origin whose pages may send requests, or *; can be repeated",
    )
    group.add_argument("--access-log", action="store_true", help="print every request")


def _add_number(
    add: Callable, option: str, default: float, unit: str, effect: str
) -> None:
    help = f"{effect} (default: {default:g})"
    add(option, type=type(default), default=default, metavar=unit, help=help)


def run(options: argparse.Namespace) -> None:
    """Serves until a signal stops it."""
    _check_numbers(options)
    form = "latest, all, or numbers such as 3,5"
    _check_form("--versions", options.versions, r"latest|all|\d+(,\d+)*", form)
    for text in options.label:
        _check_form("--label", text, r".+=\d+", "LABEL=VERSION, such as stable=3")
    wanted = options.versions
    if wanted not in ("latest", "all"):
        wanted = list(map(int, wanted.split(",")))
    pairs = (text.rpartition("=") for text in options.label)
    labels = {label: int(version) for label, _, version in pairs}
    _check_sources(options)
    try:
        with console.quiet_start():
            from keras_inception import server
    except ModuleNotFoundError as error:
        if error.name not in (
            "starlette",
            "uvicorn",
            "prometheus_client",
            "grpc_health",
        ):
            raise
        raise ValueError(
            f"serve needs {error.name}. Install the extra: pip install '.[serve]'"
        ) from None
    batching = server.Batching()
    given = (options.max_batch, options.batch_wait, options.batch_threads)
    if any(value is not None for value in given):
        rows, wait, threads = (
            default if value is None else value
            for value, (default, *_) in zip(given, BATCHING.values(), strict=True)
        )
        batching = server.Batching(rows, int(wait * 1000), threads, every=True)
    if options.batching_parameters_file:
        batching = server.read_batching(options.batching_parameters_file, batching)
    paths: dict[str, Any] = {}
    if options.monitoring_config_file:
        path = server.read_metrics_path(options.monitoring_config_file)
        paths = {"metrics_path": path}
    certificate = (options.ssl_certfile, options.ssl_keyfile)
    explained = common.load_model(options.explain) if options.explain else None
    server.serve(
        options.directory,
        model_config_file=options.model_config_file,
        config_poll_seconds=options.model_config_file_poll_seconds,
        host=options.host,
        port=options.port,
        grpc_port=options.grpc_port,
        runtime=options.runtime,
        limits=server.Limits(
            options.max_body * 2**20,
            options.max_message * 2**20,
            int(options.max_pixels * 1e6),
            options.max_queue,
            options.timeout,
        ),
        batching=batching if batching.rows > 1 else None,
        started=partial(_announce, options.grpc_port),
        name=options.name,
        wanted=wanted,
        labels=labels,
        certificate=certificate if options.ssl_certfile else None,
        origins=options.cors,
        access_log=options.access_log,
        explained=explained,
        earlier_under_load=options.early_exit == "auto",
        **paths,
    )


def _check_numbers(options: argparse.Namespace) -> None:
    """Raises a `ValueError` for a number that no server can use."""
    common.check_at_least(options, {"max_body": 1, "max_queue": 1})
    ranges: dict[str, tuple[int, float]] = {
        "port": (0, 65535),
        "grpc_port": (0, 65535),
        "max_batch": (1, 2**31),
        "batch_wait": (0, 3_600_000),
        "batch_threads": (1, 1000),
        "max_message": (1, 2047),  # MiB: gRPC's own limit
        "model_config_file_poll_seconds": (0, 86_400),
    }
    for name, (least, highest) in ranges.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= highest:
            raise _out_of_range(name, f"from {least} to {highest}", value)
    for name, most in (("max_pixels", 1e6), ("timeout", 86_400)):
        if not 0 < (value := getattr(options, name)) <= most:
            raise _out_of_range(name, f"above 0, and at most {most:g}", value)


def _out_of_range(name: str, range: str, value: float) -> ValueError:
    option = name.replace("_", "-")
    return ValueError(f"--{option} must be {range}. Received: {value}")


def _check_sources(options: argparse.Namespace) -> None:
    """Raises unless there is one source of models, and files that belong together."""
    if (options.directory is None) == (options.model_config_file is None):
        raise ValueError("serve takes either a DIRECTORY or --model-config-file FILE")
    if options.model_config_file:
        for name, unset in (
            ("name", None),
            ("versions", "latest"),
            ("label", []),
            ("runtime", None),
            ("explain", None),
        ):
            if getattr(options, name) != unset:
                raise ValueError(
                    f"--{name} belongs to a DIRECTORY. Leave it out with "
                    "--model-config-file, in which each model has its own settings."
                )
    elif not options.directory.is_dir():
        raise FileNotFoundError(f"There is no directory {options.directory}")
    if (options.ssl_certfile is None) != (options.ssl_keyfile is None):
        raise ValueError("--ssl-certfile and --ssl-keyfile belong together")


def _announce(
    grpc_port: int | None, address: str, managers: "list[Manager]", grpc_address: str
) -> None:
    for manager in managers:
        _print_address(address, manager)
    if grpc_address:
        print(f"  for gRPC      {grpc_address}", flush=True)
    elif grpc_port is None:
        print(
            "  no gRPC: port 8500 is taken; choose another by --grpc-port", flush=True
        )


def _print_address(address: str, manager: "Manager") -> None:
    numbers = ", ".join(map(str, manager.available()))
    numbers = numbers or f"none yet, waiting for one in {manager.config.directory}"
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
