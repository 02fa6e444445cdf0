"""List the training runs, or hold some of them side by side.

`runs` prints a line for each run directory: what it was, how far it is, its best
accuracy. `runs compare A B` prints the settings that differ and every output's
accuracy, and draws the curves of both.
"""

import argparse
import json
from pathlib import Path

from keras_inception_cli import common, console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `runs` and `runs compare` take."""
    _add_shared(parser)
    what = parser.add_subparsers(metavar="compare")
    parser.set_defaults(compared=None, output=None)
    compare = what.add_parser(
        "compare",
        help="hold runs side by side",
        description="Hold runs side by side: the settings that differ, every output's "
        "final and best accuracy on held-out pictures.",
    )
    compare.add_argument(
        "compared",
        metavar="RUN",
        nargs="+",
        help="name of a run, or its directory; two or more",
    )
    compare.add_argument(
        "--output", type=Path, metavar="FILE.png", help="draw their curves there"
    )
    _add_shared(compare)


def _add_shared(parser) -> None:
    parser.add_argument(
        "--runs",
        type=Path,
        default=argparse.SUPPRESS,
        help="the folder that they are in (default: runs)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="write the figures there as well",
    )


def run(options: argparse.Namespace) -> None:
    """Prints the table, or the comparison."""
    options.runs = getattr(options, "runs", Path("runs"))
    options.json = getattr(options, "json", None)
    common.check_folders(options, "json", "output")
    with console.quiet_start():
        from keras_inception.training import past_runs

    written = _compare if options.compared else _list
    figures = written(options, past_runs)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
        print(f"wrote {options.json}")


def _list(options, past_runs) -> dict:
    runs, faults = past_runs.read_runs(options.runs)
    if not runs and not faults:
        print(f"There are no runs in {options.runs}.")
    if runs:
        titles = ("run", "recipe", "epochs", "best", "heads", "time", "state")
        _print_table([titles, *map(_row, runs)])
    for name, fault in faults.items():
        print(f"{name}: {fault}")
    return {"runs": [run.as_json() for run in runs], "unreadable": faults}


def _row(run) -> tuple[str, ...]:
    return (
        run.name,
        run.config.recipe or "",
        _epochs(run),
        _best(run, "main"),
        _words(list(run.config.heads)),
        _time(run.seconds),
        run.state,
    )


def _compare(options, past_runs) -> dict:
    if len(options.compared) < 2:
        raise ValueError(
            f"runs compare takes two runs or more. Received: {options.compared[0]}"
        )
    runs = [past_runs.read_run(_path(options.runs, name)) for name in options.compared]
    if len({run.name for run in runs}) < len(runs):  # of two folders
        runs = [run._replace(name=str(run.path)) for run in runs]
    outputs = dict.fromkeys(name for run in runs for name in run.outputs)
    settings = past_runs.differing_settings(runs)
    empty = [""] * len(runs)

    def line(title, cell):
        return (title, *map(cell, runs))

    rows = [
        line("", lambda run: run.name),
        line("state", lambda run: run.state),
        line("epochs", _epochs),
        line("time", lambda run: _time(run.seconds)),
        ("settings that differ" if settings else "no setting differs", *empty),
        *((f"  {name}", *map(_words, values)) for name, values in settings.items()),
        ("accuracy on held-out pictures", *empty),
    ]
    for output in outputs:
        rows.append(line(f"  {output}, best", lambda run, of=output: _best(run, of)))
        rows.append(line(f"  {output}, last", lambda run, of=output: _last(run, of)))
    _print_table(rows)
    if options.output:
        from keras_inception.training import plots

        plots.draw_runs(runs, options.output)
        print(f"wrote {options.output}")
    return {"runs": [run.as_json() for run in runs], "settings": settings}


def _path(runs: Path, name: str) -> Path:
    return runs / name if (runs / name).is_dir() else Path(name)


def _print_table(rows) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _epochs(run) -> str:
    return f"{run.epochs}/{run.config.epochs}"


def _best(run, output: str) -> str:
    best = run.best(output)
    return f"{best[0]:.4f} in {best[1]}" if best else ""


def _last(run, output: str) -> str:
    accuracies = run.accuracies(output)
    return f"{accuracies[-1]:.4f}" if accuracies else ""


def _words(value) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(one)}" for key, one in value.items())
    return str(value)


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
