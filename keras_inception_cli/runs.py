"""List the training runs, or compare some of them.

`runs` prints a line for each run directory: its recipe, heads, progress and best
accuracy. `runs compare A B` prints the settings that differ and every output's
accuracy, and draws the curves of the runs.
"""

import argparse
from datetime import timedelta
from functools import partial
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
        "compared", metavar="RUN", nargs="+", help="two or more names or directories"
    )
    compare.add_argument(
        "--output", type=Path, metavar="FILE.png", help="draw the curves into FILE.png"
    )
    # A default here would replace the value of an option before "compare".
    for command in (parser, compare):
        add = partial(command.add_argument, type=Path, default=argparse.SUPPRESS)
        add("--runs", help="the folder that contains the runs (default: runs)")
        add("--json", metavar="FILE", help="also write the figures as JSON")


def run(options: argparse.Namespace) -> None:
    """Prints the list of runs, or the comparison."""
    common.check_folders(options, "json", "output")
    figures = _compare(options) if options.compared else _list(options.runs)
    if options.json:
        from keras_inception.files import write_json

        write_json(options.json, figures)
        print(f"wrote {options.json}")


def _list(directory: Path) -> dict[str, Any]:
    with console.quiet_start():
        from keras_inception.training import past_runs

    runs, faults = past_runs.read_runs(directory)
    if not runs and not faults:
        print(f"There are no runs in {directory}.")
    if runs:
        cells = [_cells(past) for past in runs]
        rows, columns = [list(row.values()) for row in cells], list(cells[0])
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
    cells = [_cells(past) for past in runs]
    rows = [
        *(
            [name, *(row[name] for row in cells)]
            for name in ("state", "epochs", "time")
        ),
        ["settings that differ" if settings else "no setting differs", *empty],
        *([f"  {name}", *map(_as_text, values)] for name, values in settings.items()),
        ["accuracy on validation pictures", *empty],
    ]
    for output in outputs:
        best, last = zip(*(_best_and_last(past, output) for past in runs), strict=True)
        rows += [[f"  {output}, best", *best], [f"  {output}, last", *last]]
    columns = ["", *(past.name for past in runs)]
    console.print_table(rows, columns, left=range(len(columns)))
    if options.output:
        plots.draw_runs(runs, options.output)
        print(f"wrote {options.output}")
    return {"runs": [past.as_json() for past in runs], "settings": settings}


def _cells(past: "PastRun") -> dict[str, str]:
    """A run's line in the list, by column."""
    return {
        "run": past.name,
        "recipe": past.config.recipe or "",
        "epochs": f"{past.epochs}/{past.config.epochs}",
        "best": _best_and_last(past, "main")[0],
        "heads": _as_text(list(past.config.heads)),
        "time": str(timedelta(seconds=round(past.seconds))),
        "state": past.state,
    }


def _best_and_last(past: "PastRun", output: str) -> tuple[str, str]:
    best, accuracies = past.best(output), past.accuracies(output)
    return (
        (f"{best[0]:.4f} in {best[1]}", f"{accuracies[-1]:.4f}") if best else ("", "")
    )


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
