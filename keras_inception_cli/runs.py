"""List the training runs, or compare some of them.

`runs` prints a line for each run directory: its recipe, heads, progress and best
accuracy. `runs compare A B` prints the settings that differ and every output's
accuracy, and draws the curves of the runs.
"""

import argparse
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from keras_inception_cli import common, console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `runs` and `runs compare`."""
    _add_shared(parser)
    subparsers = parser.add_subparsers(metavar="compare")
    parser.set_defaults(compared=None, output=None)
    compare = subparsers.add_parser(
        "compare",
        help="compare runs side by side",
        description="Compare runs side by side: the settings that differ, and every "
        "output's final and best accuracy on the validation split.",
    )
    compare.add_argument(
        "compared",
        metavar="RUN",
        nargs="+",
        help="name of a run, or its directory; two or more",
    )
    compare.add_argument(
        "--output", type=Path, metavar="FILE.png", help="draw the curves into FILE.png"
    )
    _add_shared(compare)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs",
        type=Path,
        default=argparse.SUPPRESS,
        help="the folder that contains the runs (default: runs)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="also write the figures as JSON",
    )


def run(options: argparse.Namespace) -> None:
    """Prints the list of runs, or the comparison."""
    options.runs = getattr(options, "runs", Path("runs"))
    options.json = getattr(options, "json", None)
    common.check_folders(options, "json", "output")
    with console.quiet_start():
        from keras_inception.training import past_runs

    command = _compare if options.compared else _list
    figures = command(options, past_runs)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
        print(f"wrote {options.json}")


def _list(options: argparse.Namespace, past_runs: ModuleType) -> dict[str, Any]:
    runs, faults = past_runs.read_runs(options.runs)
    if not runs and not faults:
        print(f"There are no runs in {options.runs}.")
    if runs:
        columns = ("run", "recipe", "epochs", "best", "heads", "time", "state")
        console.print_table(list(map(_row, runs)), columns, left=range(len(columns)))
    for name, fault in faults.items():
        print(f"{name}: {fault}")
    return {"runs": [run.as_json() for run in runs], "unreadable": faults}


def _row(past) -> tuple[str, ...]:
    return (
        past.name,
        past.config.recipe or "",
        _epochs(past),
        _best(past, "main"),
        _as_text(list(past.config.heads)),
        _time(past.seconds),
        past.state,
    )


def _compare(options: argparse.Namespace, past_runs: ModuleType) -> dict[str, Any]:
    if len(options.compared) < 2:
        raise ValueError(
            f"runs compare needs two runs or more. Received: {options.compared[0]}"
        )
    paths = [
        options.runs / name if (options.runs / name).is_dir() else Path(name)
        for name in options.compared
    ]
    runs = [past_runs.read_run(path) for path in paths]
    names = [past.name for past in runs]
    if len(set(names)) < len(names):  # runs of the same name in different folders
        names = [str(past.path) for past in runs]
        runs = [
            past._replace(name=name) for past, name in zip(runs, names, strict=True)
        ]
    settings = past_runs.differing_settings(runs)
    empty = [""] * len(runs)
    rows = [
        ["state", *(past.state for past in runs)],
        ["epochs", *map(_epochs, runs)],
        ["time", *(_time(past.seconds) for past in runs)],
        ["settings that differ" if settings else "no setting differs", *empty],
        *([f"  {name}", *map(_as_text, values)] for name, values in settings.items()),
        ["accuracy on validation pictures", *empty],
    ]
    for output in dict.fromkeys(output for past in runs for output in past.outputs):
        rows.append([f"  {output}, best", *(_best(past, output) for past in runs)])
        rows.append([f"  {output}, last", *(_last(past, output) for past in runs)])
    console.print_table(rows, ["", *names], left=range(len(runs) + 1))
    if options.output:
        from keras_inception.training import plots

        plots.draw_runs(runs, options.output)
        print(f"wrote {options.output}")
    return {"runs": [past.as_json() for past in runs], "settings": settings}


def _epochs(past) -> str:
    return f"{past.epochs}/{past.config.epochs}"


def _best(past, output: str) -> str:
    best = past.best(output)
    return f"{best[0]:.4f} in {best[1]}" if best else ""


def _last(past, output: str) -> str:
    accuracies = past.accuracies(output)
    return f"{accuracies[-1]:.4f}" if accuracies else ""


def _as_text(value: object) -> str:
    """A setting's value for people."""
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_as_text(one)}" for key, one in value.items())
    return str(value)


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
