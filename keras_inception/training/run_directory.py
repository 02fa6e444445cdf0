"""A run's directory: its files, its settings, and which process may train it."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from keras_inception.files import locked, read_json, write_json, write_whole
from keras_inception.training.checkpoint import checkpoint_state, load_checkpoint


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The settings of a run, as `config.json` holds them.

    Attributes:
        data: DATA as it was named: `digits`, a folder, `tfds:NAME`.
        epochs: Passes over the training pictures.
        heads: Endpoints of the auxiliary heads; `()` for none.
        seed: Chooses the validation split, the order and the augmentation.
        recipe: Name of the recipe, or `None`.
        settings: Everything else, by name; JSON.
    """

    data: str
    epochs: int
    heads: tuple[str, ...]
    seed: int = 0
    recipe: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All settings in one dict, as they are written."""
        named = {name: getattr(self, name) for name in _NAMES}
        return named | {"heads": list(self.heads)} | dict(self.settings)

    @classmethod
    def from_json(cls, choices: Any, source: Path) -> Self:
        """Reads what `as_json` wrote; a `ValueError` names `source`, its file."""
        complete = isinstance(choices, dict) and choices.keys() >= _REQUIRED
        if not complete or not isinstance(choices["heads"], list):
            raise ValueError(
                f"{source} is not the config.json of a run: it must be a JSON object "
                f"with {', '.join(sorted(_REQUIRED))} (a list)."
            )
        known = {name: choices[name] for name in _NAMES if name in choices}
        rest = {name: value for name, value in choices.items() if name not in _NAMES}
        return cls(**known | {"heads": tuple(choices["heads"])}, settings=rest)


_NAMES = ("data", "epochs", "heads", "seed", "recipe")
_REQUIRED = {"data", "epochs", "heads"}


class RunDirectory:
    """The files of one training run.

        runs/NAME/config.json   every setting of the run
                  pictures.csv  the files it learned from, with class, split and size
                  history.csv   one line per epoch: loss and accuracy of every output
                  model.keras   the epoch with the best `val_main_accuracy`
                  latest.keras  the last finished epoch, from which a run resumes
                  tensorboard/  for `tensorboard --logdir runs`
                  attribution.csv, attribution.png   with `train --attribution`
                  result.json   written last: the run is finished

    `RunDirectory.create` makes one for a new run, `RunDirectory.open` finds one.

    Args:
        path: `runs/NAME`. Nothing is read or written yet.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.pictures = self.path / "pictures.csv"
        self.history = self.path / "history.csv"
        self.model = self.path / "model.keras"
        self.latest = self.path / "latest.keras"
        self.tensorboard = self.path / "tensorboard"
        self.attribution = self.path / "attribution.csv"
        self.result = self.path / "result.json"

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool = False) -> Self:
        """Makes the directory of a new run.

        Args:
            path: `runs/NAME`; missing parents are made too.
            overwrite: Whether to delete an earlier run there.

        Raises:
            FileExistsError: If the directory holds an earlier run and `overwrite` is
                False, or holds something else.
            RuntimeError: If another process trains in it.
        """
        run = cls(path)
        if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
            if not run.config.is_file():
                raise FileExistsError(
                    f"{run.path} already exists and is not a training run; choose "
                    "another name or directory."
                )
            if not overwrite:
                finished = run.result.is_file()
                raise FileExistsError(
                    f"{run.path} holds {'a finished' if finished else 'an unfinished'}"
                    " run. Choose another --name, or pass --overwrite to replace it"
                    f"{'.' if finished else ' or --resume to continue it.'}"
                )
            run.check_free()
            shutil.rmtree(run.path)
        run.path.mkdir(parents=True, exist_ok=True)
        return run

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Finds a run that was begun, finished or not; else `FileNotFoundError`."""
        run = cls(path)
        if not run.config.is_file():
            raise FileNotFoundError(
                f"There is no run in {run.path}: it has no config.json."
            )
        return run

    @classmethod
    def of_model(cls, model: str | Path) -> Self | None:
        """Finds the run that a model file lies in, `None` if it lies in none."""
        run = cls(Path(model).resolve().parent)
        return run if run.config.is_file() else None

    def read_config(self) -> RunConfig:
        """Reads `config.json`; a `ValueError` if it is damaged or not a run's."""
        return RunConfig.from_json(read_json(self.config), self.config)

    def read_result(self) -> dict[str, Any] | None:
        """Reads `result.json`; `None` if the run is not finished."""
        return read_json(self.result) if self.result.is_file() else None

    def begin(self, config: RunConfig) -> None:
        """Writes `config.json`; deletes curves of a start that finished no epoch."""
        shutil.rmtree(self.tensorboard, ignore_errors=True)
        write_json(self.config, config.as_json())

    def checkpoint(self) -> tuple[keras.Model, dict] | None:
        """Loads the model and state to resume from, `None` before the first epoch."""
        return load_checkpoint(self.latest) if self.latest.is_file() else None

    def epochs_done(self) -> int:
        """The number of epochs in the checkpoint, 0 if there is none."""
        if not self.latest.is_file():
            return 0
        return checkpoint_state(self.latest)["epochs"]

    def check_resumable(self) -> None:
        """Raises an error if the run is finished, or another process trains in it."""
        if self.result.is_file():
            raise FileExistsError(
                f"{self.path} holds a finished run; there is nothing to resume."
            )
        self.check_free()

    def is_held(self) -> bool:
        """Whether a process trains this run, on any machine that shares the disk."""
        if not self.config.is_file():
            return False
        with locked(self.config, shared=True) as free:
            return not free

    def check_free(self) -> None:
        """Raises a `RuntimeError` if a process is training this run."""
        if self.is_held():
            raise RuntimeError(self._busy())

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the run for the block; a `RuntimeError` if another process does."""
        # No run replaces its config.json, so every process locks the same file.
        with locked(self.config) as free:
            if not free:
                raise RuntimeError(self._busy())
            yield

    def _busy(self) -> str:
        return f"Another process is training the run in {self.path} right now."

    def check_room(self, model: keras.Model) -> None:
        """Raises an `OSError` if the disk cannot hold the run's three models.

        They are the best, the latest, and the one being written.
        """
        probe = self.path / ".partial-probe"
        write_whole(probe, lambda partial: partial.write_bytes(b"0" * 4096))
        probe.unlink()
        variables = [*model.variables, *model.optimizer.variables]
        need = 3 * sum(4 * int(np.prod(v.shape)) for v in variables)
        free = shutil.disk_usage(self.path).free
        if free < need:
            raise OSError(
                f"{self.path} has {free / 1e6:,.0f} MB free; this run needs about "
                f"{need / 1e6:,.0f} MB for its models. Free some, or choose another "
                "--runs directory."
            )
