"""Reading run directories: their settings, their history, and their state."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_inception.files import read_csv
from keras_inception.outputs import MAIN
from keras_inception.training.checkpoint import checkpoint_state
from keras_inception.training.run_directory import RunConfig, RunDirectory

FINISHED, RUNNING, INTERRUPTED = "finished", "running", "interrupted"
# Settings that are not compared: they follow from the data.
_NOT_COMPARED = ("class_names",)


class PastRun(NamedTuple):
    """A run as its directory describes it.

    Attributes:
        name: Name of the directory.
        path: The directory.
        config: Its settings.
        history: For each log name, its value in each epoch.
        state: `"finished"`, `"running"` (a process trains in it) or `"interrupted"`
            (`train --resume` continues it).
        seconds: Training time so far; 0 before the first checkpoint.
    """

    name: str
    path: Path
    config: RunConfig
    history: dict[str, list[float]]
    state: str
    seconds: float

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(next(iter(self.history.values()), ()))

    @property
    def outputs(self) -> list[str]:
        """`main` first, then the heads' outputs by name."""
        prefix, suffix = "val_", "_accuracy"
        found = [
            name[len(prefix) : -len(suffix)]
            for name in self.history
            if name.startswith(prefix) and name.endswith(suffix)
        ]
        return sorted(found, key=lambda name: (name != MAIN, name))

    def accuracies(self, output: str) -> list[float]:
        """An output's validation accuracy after each epoch."""
        return self.history.get(f"val_{output}_accuracy", [])

    def best(self, output: str = MAIN) -> tuple[float, int] | None:
        """An output's best validation accuracy, and the first epoch (from 1) of it."""
        accuracies = self.accuracies(output)
        if not accuracies:
            return None
        highest = max(accuracies)
        return highest, accuracies.index(highest) + 1

    def as_json(self) -> dict[str, Any]:
        """Settings and results as JSON."""
        return {
            "name": self.name,
            "recipe": self.config.recipe,
            "heads": list(self.config.heads),
            "epochs_done": self.epochs,
            "epochs": self.config.epochs,
            "outputs": {name: self._figures(name) for name in self.outputs},
            "seconds": self.seconds,
            "state": self.state,
        }

    def _figures(self, output: str) -> dict[str, float]:
        best, epoch = self.best(output) or (math.nan, 0)
        last = self.accuracies(output)[-1]
        return {"last": last, "best": best, "best_epoch": epoch}


def read_run(path: str | Path) -> PastRun:
    """Reads a run's directory; raises if there is no run or a file is damaged."""
    run = RunDirectory.open(path)
    config, result = run.read_config(), run.read_result()
    if result is not None:
        state, seconds = FINISHED, result.get("seconds", 0.0)
    else:
        state = RUNNING if run.is_held() else INTERRUPTED
        checkpoint = checkpoint_state(run.latest) if run.latest.is_file() else {}
        seconds = checkpoint.get("seconds", 0.0)
    history = _read_history(run.history) if run.history.is_file() else {}
    return PastRun(run.path.name, run.path, config, history, state, seconds)


def read_runs(directory: str | Path) -> tuple[list[PastRun], dict[str, str]]:
    """Returns the readable runs, and for each other directory its error."""
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(
            f"There is no folder {directory} with runs. `keras-inception train` makes "
            "one; --runs names another."
        )
    runs, errors = [], {}
    for config in sorted(directory.glob("*/config.json")):
        try:
            runs.append(read_run(config.parent))
        except (ValueError, OSError) as error:
            errors[config.parent.name] = str(error)
    return runs, errors


def differing_settings(runs: Sequence[PastRun]) -> dict[str, list[Any]]:
    """The settings that differ between runs: name to one value per run."""
    configs = [run.config.as_json() for run in runs]
    values = {
        name: [config.get(name) for config in configs]
        for name in dict.fromkeys(name for config in configs for name in config)
        if name not in _NOT_COMPARED
    }
    return {
        name: of_runs
        for name, of_runs in values.items()
        if any(value != of_runs[0] for value in of_runs)
    }


def _read_history(path: Path) -> dict[str, list[float]]:
    fault = "is not the history of a run"
    names, *rows = read_csv(path, fault) or [[]]
    history: dict[str, list[float]] = {name: [] for name in names}
    for line, row in enumerate(filter(None, rows), start=2):
        if len(row) != len(names):
            raise ValueError(
                f"{path} {fault}: line {line} has {len(row)} cells; expected "
                f"{len(names)}."
            )
        for name, cell in zip(names, row, strict=True):
            try:
                history[name].append(float(cell))
            except ValueError:
                raise ValueError(
                    f"{path} {fault}: {name!r} in line {line} is {cell[:60]!r}; "
                    "expected a number."
                ) from None
    return {name: values for name, values in history.items() if name != "epoch"}
