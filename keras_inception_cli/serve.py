"""Serve an exported model at TF Serving's REST paths, with a page for people at /.

The latest version is served; newer ones are picked up while it runs. SIGTERM and Ctrl-C
answer what is under way, then stop.
"""

import argparse
from pathlib import Path

from keras_inception_cli import common, console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `serve` takes."""
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, help="saved_models/NAME"
    )
    parser.add_argument("--name", help="of the model in paths (default: NAME)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine alone)",
    )
    parser.add_argument(
        "--port", type=int, default=8501, help="0 takes a free one (default: 8501)"
    )
    versions = parser.add_argument_group("versions")
    versions.add_argument(
        "--versions",
        default="latest",
        metavar="WHICH",
        help="latest, all, or numbers such as 3,5 (default: latest)",
    )
    versions.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="LABEL=VERSION",
        help="serve this version as well, at .../labels/LABEL; can be repeated",
    )
    batching = parser.add_argument_group("batching of concurrent requests")
    batching.add_argument(
        "--max-batch", type=int, default=32, metavar="ROWS", help="1: off (default: 32)"
    )
    batching.add_argument(
        "--batch-wait",
        type=float,
        default=1.0,
        metavar="MS",
        help="for company, where nothing is running (default: 1)",
    )
    batching.add_argument(
        "--batch-threads",
        type=int,
        default=2,
        metavar="N",
        help="batches running at once (default: 2)",
    )
    limits = parser.add_argument_group("limits on requests")
    limits.add_argument(
        "--max-body", type=int, default=32, metavar="MIB", help="(default: 32)"
    )
    limits.add_argument(
        "--max-pixels",
        type=float,
        default=25,
        metavar="MILLIONS",
        help="of one picture, width times height (default: 25)",
    )
    limits.add_argument(
        "--max-queue", type=int, default=64, metavar="REQUESTS", help="(default: 64)"
    )
    limits.add_argument(
        "--timeout", type=float, default=30, metavar="SECONDS", help="(default: 30)"
    )


def run(options: argparse.Namespace) -> None:
    """Serves until it is told to stop."""
    common.check_at_least(
        options, {"port": 0, "max_batch": 1, "batch_wait": 0, "max_body": 1}
    )
    common.check_at_least(options, {"max_queue": 1, "batch_threads": 1})
    for name in ("max_pixels", "timeout"):
        if not getattr(options, name) > 0:
            raise ValueError(
                f"--{name.replace('_', '-')} must be above 0. Received: "
                f"{getattr(options, name)}"
            )
    wanted = _wanted(options.versions)
    labels = dict(_label(text) for text in options.label)
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
        started=_tell,
        name=options.name,
        wanted=wanted,
        labels=labels,
    )


def _tell(address: str, manager) -> None:
    numbers = ", ".join(map(str, manager.available()))
    print(
        f"serving {manager.name}, version {numbers}\n"
        f"  for people    {address}/\n"
        f"  for programs  {address}/v1/models/{manager.name}:predict",
        flush=True,
    )


def _wanted(text: str) -> str | list[int]:
    if text in ("latest", "all"):
        return text
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise ValueError(
            f"--versions takes latest, all, or numbers such as 3,5. Received: {text}"
        )
    return [int(number) for number in numbers]


def _label(text: str) -> tuple[str, int]:
    label, _, version = text.partition("=")
    if not label.replace("_", "a").isalnum() or not version.isdecimal():
        raise ValueError(
            f"--label takes LABEL=VERSION, such as stable=3. Received: {text}"
        )
    return label, int(version)
