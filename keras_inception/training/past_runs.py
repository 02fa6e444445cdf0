"""Reading run directories: what was chosen, how it went, where it stands."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_inception.outputs import MAIN
from keras_inception.training.checkpoint import checkpoint_state
from keras_inception.training.run_directory import RunFiles

FINISHED, GOING_ON, KILLED = "finished", "going on", "killed"
# What tells nothing when settings are compared.
_NO_SETTINGS = ("class_names",)


class PastRun(NamedTuple):
    """A run as its directory tells it.

    Attributes:
        name: The directory's name.
        path: The directory.
        config: Its choices, as in `config.json`.
        history: What each epoch brought: name of a figure to its values, by epoch.
        state: `"finished"`, `"going on"` (a process works on it) or `"killed"` (none
            does: `train --resume` goes on).
        seconds: How long it has trained; 0 before the first checkpoint.
    """

    name: str
    path: Path
    config: dict
    history: dict[str, list[float]]
    state: str
    seconds: float

    @property
    def epochs(self) -> int:
        """How many are done."""
        return len(next(iter(self.history.values()), ()))

    @property
    def outputs(self) -> list[str]:
        """`main` and the heads, in network order."""
        ending = "_accuracy"
        found = [
            name.removeprefix("val_").removesuffix(ending)
            for name in self.history
            if name.startswith("val_") and name.endswith(ending)
        ]
        return sorted(found, key=lambda name: (name != MAIN, name))

    def accuracies(self, output: str) -> list[float]:
        """An output's accuracy on held-out pictures after each epoch."""
        return self.history.get(f"val_{output}_accuracy", [])

    def best(self, output: str = MAIN) -> tuple[float, int] | None:
        """An output's best accuracy and the epoch, from 1, that first had it."""
        accuracies = self.accuracies(output)
        if not accuracies:
            return None
        highest = max(accuracies)
        return highest, accuracies.index(highest) + 1


def read_run(path: str | Path) -> PastRun:
    """Reads one run's directory.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If a file of it can't be read.
    """
    run = RunFiles(path)
    if not run.config.is_file():
        raise FileNotFoundError(
            f"There is no run in {run.path}: it has no config.json."
        )
    config = _read_json(run.config)
    if not isinstance(config, dict) or "data" not in config:
        raise ValueError(f"{run.config} is no config.json of a run.")
    result = _read_json(run.result) if run.result.is_file() else None
    if result is not None:
        state, seconds = FINISHED, result.get("seconds", 0.0)
    else:
        state = GOING_ON if run.is_held() else KILLED
        kept = checkpoint_state(run.latest) if run.latest.is_file() else {}
        seconds = kept.get("seconds", 0.0)
    history = _read_history(run.history) if run.history.is_file() else {}
    return PastRun(run.path.name, run.path, config, history, state, seconds)


def read_runs(directory: str | Path) -> tuple[list[PastRun], dict[str, str]]:
    """Reads the runs in a directory, by name.

    Returns:
        The runs, and by directory's name what is wrong with those that can't be read.

    Raises:
        FileNotFoundError: If there is no such directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(
            f"There is no folder {directory} with runs. `keras-inception train` makes "
            "one; --runs names another."
        )
    runs, faults = [], {}
    for config in sorted(directory.glob("*/config.json")):
        try:
            runs.append(read_run(config.parent))
        except ValueError as error:
            faults[config.parent.name] = str(error)
    return runs, faults


def differing_settings(runs: Sequence[PastRun]) -> dict[str, list]:
    """Settings that are not the same in all of the runs: name to a value for each."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    values = {
        name: [run.config.get(name) for run in runs]
        for name in names
        if name not in _NO_SETTINGS
    }
    return {
        name: of_runs
        for name, of_runs in values.items()
        if any(value != of_runs[0] for value in of_runs)
    }


def as_json(run: PastRun) -> dict:
    """A run's row as JSON."""
    return {
        "name": run.name,
        "recipe": run.config.get("recipe"),
        "heads": run.config.get("heads"),
        "epochs_done": run.epochs,
        "epochs": run.config.get("epochs"),
        "outputs": {name: _figures(run, name) for name in run.outputs},
        "seconds": run.seconds,
        "state": run.state,
    }


def draw_runs(runs: Sequence[PastRun], path: str | Path) -> None:
    """Draws the runs' curves into one PNG: a panel per output, a colour per run."""
    from matplotlib.figure import Figure

    outputs = list(dict.fromkeys(name for run in runs for name in run.outputs))
    rows = (("accuracy", "accuracy"), ("loss", "loss, not weighted"))
    figure = Figure(figsize=(4.4 * max(1, len(outputs)), 7.2), layout="constrained")
    grid = figure.subplots(len(rows), max(1, len(outputs)), squeeze=False, sharex=True)
    for (metric, label), panels in zip(rows, grid, strict=True):
        for output, axes in zip(outputs, panels, strict=False):
            for number, run in enumerate(runs):
                _draw_curves(axes, run, f"{output}_{metric}", f"C{number}")
            axes.set_title(f"{output}: {label}", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.25)
    longest = max((run.epochs for run in runs), default=0)
    for axes in grid[-1]:
        axes.set(xlabel="epoch", xlim=(0.5, max(1, longest) + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
    if outputs:
        figure.legend(
            *grid[0][0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(4, 2 * len(runs)),
            frameon=False,
        )
    figure.savefig(path, format="png", dpi=120)


def _draw_curves(axes, run: PastRun, figure: str, colour: str) -> None:
    for prefix, what, style in (("val_", "held out", "-"), ("", "training", ":")):
        values = run.history.get(prefix + figure, [])
        axes.plot(
            range(1, len(values) + 1),
            values,
            style,
            color=colour,
            marker="." if len(values) < 30 else None,
            label=f"{run.name}, {what}",
        )


def _figures(run: PastRun, output: str) -> dict:
    best, epoch = run.best(output)
    return {"last": run.accuracies(output)[-1], "best": best, "best_epoch": epoch}


def _read_json(path: Path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} is no JSON.") from None


def _read_history(path: Path) -> Mapping[str, list[float]]:
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name != "epoch"] if rows else []
        return {name: [float(row[name]) for row in rows] for name in names}
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path} is no history of a run.") from None
