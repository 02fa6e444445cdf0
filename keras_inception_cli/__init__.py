"""The `keras-inception` command.

A separate package beside `keras_inception`, so that `--help` and wrong arguments are
answered at once: importing `keras_inception` imports Keras and its backend, which takes
seconds. Each command's module declares its options (`add_arguments`) and runs it
(`run`), with the heavy imports inside `run`.

    data.py, train.py, runs.py, evaluate.py, predict.py, gradients.py, endpoints.py,
    exits.py, calibrate.py, export.py, serve.py, convert.py     one command each
    predict_inputs.py, predict_remote.py, predict_report.py, predict_explain.py
                                        the parts of `predict`
    train_options.py, head_options.py   the options of `train`
    train_config.py, head_names.py      the configuration that they resolve to
    train_plan.py                       settings that fit the pictures and the time
    train_network.py, train_heads.py    the network that a training starts from
    train_session.py, train_job.py, train_frozen.py, train_contexts.py   the training
    train_settings.py                   the settings that a run keeps
    data_options.py                     DATA and its options, for all commands
    console.py, common.py               progress and tables; checks and loading
"""

import argparse
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable

from keras_inception_cli import (
    calibrate,
    convert,
    data,
    endpoints,
    evaluate,
    exits,
    export,
    gradients,
    predict,
    runs,
    serve,
    train,
)
from keras_inception_cli.console import (
    message_of,
    printed_log,
    safe_output,
    tensorflow_errors,
)

COMMANDS = {
    "data": data,
    "train": train,
    "runs": runs,
    "evaluate": evaluate,
    "predict": predict,
    "gradients": gradients,
    "endpoints": endpoints,
    "exits": exits,
    "calibrate": calibrate,
    "export": export,
    "serve": serve,
    "convert": convert,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    Args:
        arguments: The words after `keras-inception`. Defaults to the process's own.
    """
    if importlib.util.find_spec("fcntl") is None:
        print(
            "keras-inception: error: Windows is not supported; use WSL", file=sys.stderr
        )
        return 1
    parser = argparse.ArgumentParser(
        prog="keras-inception",
        description="GoogLeNet with its auxiliary classifiers, from data to a server.",
    )
    parser.add_argument("--version", action=_Version)
    subparsers = parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=_CommandParser
    )
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = subparsers.add_parser(name, help=summary, description=module.__doc__)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    with printed_log():
        return status_of("keras-inception", lambda: options.run(options))


class _Version(argparse.Action):
    """`--version`, read from the installed package: importing it takes seconds."""

    def __init__(self, **options):
        super().__init__(nargs=0, help="print the version and exit", **options)

    def __call__(self, parser, *_):
        print(importlib.metadata.version("keras-inception"))
        parser.exit()


class _CommandParser(argparse.ArgumentParser):
    """Accepts options anywhere among a command's words, as in `M1 --json FILE M2`."""

    _is_intermixing = False

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        # argparse supports it, but not in a subparser, nor in a parser that has some
        if self._is_intermixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        # argparse forgets that no options follow `--`; as paths they can't be mistaken.
        if args and "--" in args:
            at = args.index("--")
            paths = [f"./{x}" if x.startswith("-") else x for x in args[at + 1 :]]
            args = [*args[:at], *paths]
        self._is_intermixing = True  # it calls this method
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixing = False


def status_of(program: str, run: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit status; an error is one line on stderr.

    Args:
        program: What the line begins with.
        run: Returns an exit status, or `None` for 0.
    """
    with safe_output():
        return _status_of(program, run)


_EXPECTED: tuple[type[Exception], ...] = (
    ValueError,
    OSError,
    RuntimeError,
    ImportError,
    MemoryError,
)


def _status_of(program: str, run: Callable[[], int | None]) -> int:
    try:
        return run() or 0
    except BrokenPipeError:  # as of `| head`, which has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"{program}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    except _EXPECTED + tensorflow_errors() as error:
        if os.environ.get("KERAS_INCEPTION_DEBUG"):
            raise
        print(f"{program}: error: {message_of(error)}", file=sys.stderr)
        return 1
