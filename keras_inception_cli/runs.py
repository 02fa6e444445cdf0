"""List the training runs, or compare some of them.

`runs` prints a line for each run directory: its recipe, heads, progress and best
accuracy. `runs compare A B` prints the settings that differ and every output's
accuracy, and draws the curves of the runs.
"""

import argparse
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_inception_cli import common, console

if TYPE_CHECKING:
    from keras_inception.training.past_runs import PastRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `runs` and `runs compare`."""
    parser.set_defaults(compared=None, output=None, runs=Path("runs"), json=None)
    compare = parser.add_subparsers(metavar="compare").add_parser(
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
    # A default here would replace the value of an option before "compare".
    for command in (parser, compare):
        command.add_argument(
            "--runs",
            type=Path,
            default=argparse.SUPPRESS,
            help="the folder that contains the runs (default: runs)",
        )
        command.add_argument(
            "--json",
            type=Path,
            metavar="FILE",
            default=argparse.SUPPRESS,
            help="also write the figures as JSON",
        )


def run(options: argparse.Namespace) -> None:
    """Prints the list of runs, or the comparison."""
    common.check_folders(options, "json", "output")
    figures = _compare(options) if options.compared else _list(options.runs)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
        print(f"wrote {options.json}")


def _list(directory: Path) -> dict[str, Any]:
    with console.quiet_start():
        from keras_inception.training import past_runs

    runs, faults = past_runs.read_runs(directory)
    if not runs and not faults:
        print(f"There are no runs in {directory}.")
    if runs:
        columns = ("run", "recipe", "epochs", "best", "heads", "time", "state")
        rows = [
            (
                past.name,
                past.config.recipe or "",
                _epochs(past),
                _best(past, "main"),
                _as_text(list(past.config.heads)),
                _time(past),
                past.state,
            )
            for past in runs
        ]
        console.print_table(rows, columns, left=range(len(columns)))
    for name, fault in faults.items():
        print(f"{name}: {fault}")
    return {"runs": [past.as_json() for past in runs], "unreadable": faults}


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    if len(options.compared) < 2:
        raise ValueError(
            f"runs compare needs two runs or more. Received: {options.compared[0]}"
        )
    with console.quiet_start():
        from keras_inception.training import past_runs, plots

    inside = {name: options.runs / name for name in options.compared}
    paths = [inside[n] if inside[n].is_dir() else Path(n) for n in options.compared]
    runs = [past_runs.read_run(path) for path in paths]
    if len({past.name for past in runs}) < len(runs):  # same names in several folders
        runs = [past._replace(name=str(past.path)) for past in runs]
    settings = past_runs.differing_settings(runs)
    outputs = dict.fromkeys(output for past in runs for output in past.outputs)
    empty = [""] * len(runs)
    rows = [
        ["state", *(past.state for past in runs)],
        ["epochs", *map(_epochs, runs)],
        ["time", *map(_time, runs)],
        ["settings that differ" if settings else "no setting differs", *empty],
        *([f"  {name}", *map(_as_text, values)] for name, values in settings.items()),
        ["accuracy on validation pictures", *empty],
    ]
    for output in outputs:
        rows.append([f"  {output}, best", *(_best(past, output) for past in runs)])
        rows.append([f"  {output}, last", *(_last(past, output) for past in runs)])
    names = ["", *(past.name for past in runs)]
    console.print_table(rows, names, left=range(len(names)))
    if options.output:
        plots.draw_runs(runs, options.output)
        print(f"wrote {options.output}")
    return {"runs": [past.as_json() for past in runs], "settings": settings}


def _epochs(past: "PastRun") -> str:
    return f"{past.epochs}/{past.config.epochs}"


def _time(past: "PastRun") -> str:
    return str(timedelta(seconds=round(past.seconds)))


def _best(past: "PastRun", output: str) -> str:
    best = past.best(output)
    return f"{best[0]:.4f} in {best[1]}" if best else ""


def _last(past: "PastRun", output: str) -> str:
    accuracies = past.accuracies(output)
    return f"{accuracies[-1]:.4f}" if accuracies else ""


def _as_text(value: object) -> str:
    """A setting's value for people."""
    match value:
        case None | []:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(map(str, value))
        case dict():
            return ", ".join(f"{key} {_as_text(one)}" for key, one in value.items())
    return str(value)
