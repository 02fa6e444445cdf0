"""A run's directory: its files, its settings, and which process may train it."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, Self, TypedDict

import keras
import numpy as np

from keras_inception.files import delete, read_json, write_json, write_whole
from keras_inception.locks import locked
from keras_inception.schema import Count, Range, Seconds, check
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
    def read(cls, file: Path) -> Self:
        """Reads a `config.json`; a `ValueError` if it is damaged or not a run's."""
        return cls.from_json(read_json(file, fault=_NO_CONFIG), file)

    @classmethod
    def from_json(cls, choices: Any, source: Path) -> Self:
        """Reads what `as_json` wrote; a `ValueError` names `source`, its file."""
        check(choices, cls, f"{source} {_NO_CONFIG}")
        known = {name: choices[name] for name in _NAMES if name in choices}
        rest = {name: value for name, value in choices.items() if name not in _NAMES}
        return cls(**known | {"heads": tuple(choices["heads"])}, settings=rest)


_NAMES = ("data", "epochs", "heads", "seed", "recipe")
_NO_CONFIG = "is not the config.json of a run"


class Result(TypedDict):
    """What a finished run reports in `result.json`, among other things."""

    best_epoch: Count
    val_main_accuracy: Annotated[float, Range(0, 1)]
    seconds: NotRequired[Seconds]


# All that a run, and `calibrate`, write into its directory: what overwriting deletes.
# The settings come last: without them the directory is not recognized as a run's.
_MADE = (
    *("result.json", "latest.keras", "model.keras", "history.csv", "tensorboard"),
    *("pictures.csv", "attribution.csv", "attribution.png"),
    *("exits.json", "exits.png", "config.json"),
)


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
                  .lock         while a process trains it, which holds it locked

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
        # Not one of the files above, which people replace and overwriting deletes.
        self.lock = self.path / ".lock"
        self._is_new = False

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool = False) -> Self:
        """Makes the directory of a new run.

        Args:
            path: `runs/NAME`; missing parents are made too.
            overwrite: Whether to delete an earlier run there: the files that a run
                makes, and no others.

        Raises:
            FileExistsError: If the directory holds an earlier run and `overwrite` is
                False, or holds something else.
            ValueError: If the path is not in UTF-8.
            RuntimeError: If another process trains in it.
        """
        run = cls(path)
        run._check_creatable(overwrite)  # before a lock file is left there
        run.check_free()
        run.path.mkdir(parents=True, exist_ok=True)
        with run.hold():
            run._check_creatable(overwrite)
            for name in _MADE:
                delete(run.path / f".partial-{name}")  # as earlier versions left it
                delete(run.path / name)
        run._is_new = True
        return run

    def _check_creatable(self, overwrite: bool) -> None:
        try:
            str(self.path.absolute()).encode()
        except UnicodeEncodeError:
            raise ValueError(
                "TensorBoard's files need a path in UTF-8. Received: "
                f"{str(self.path)!r}"
            ) from None
        if not os.path.lexists(self.path):
            return
        is_run = fault = None
        if self.path.is_dir():
            entries = (entry.name for entry in self.path.iterdir())
            if all(n == self.lock.name or n.startswith(".partial-") for n in entries):
                return  # empty, or left by a start that was killed
            try:
                is_run = self.config.is_file() and self.read_config()
            except ValueError as error:
                fault = error
        if not is_run:
            raise FileExistsError(
                f"{self.path} already exists and is not a training run"
                f"{f' ({fault})' if fault else ''}; choose another name or directory."
            )
        if not overwrite:
            finished = self.result.is_file()
            raise FileExistsError(
                f"{self.path} holds {'a finished' if finished else 'an unfinished'}"
                " run. Choose another --name, or pass --overwrite to replace it"
                f"{'.' if finished else ' or --resume to continue it.'}"
            )

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
        return RunConfig.read(self.config)

    def read_result(self) -> dict[str, Any] | None:
        """Reads `result.json`; `None` if the run is not finished."""
        if not self.result.is_file():
            return None
        return read_json(self.result, Result, "is not the result.json of a run")

    def begin(self, config: RunConfig) -> None:
        """Writes `config.json`; deletes curves of a start that finished no epoch.

        Raises:
            FileExistsError: If another process has begun a run since `create`.
        """
        if self._is_new and self.config.exists():
            raise FileExistsError(
                f"Another process has begun a run in {self.path} in the meantime."
            )
        self._is_new = False
        delete(self.tensorboard)
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
        for file in (self.lock, self.config):  # earlier versions lock config.json
            with (
                contextlib.suppress(FileNotFoundError),
                contextlib.ExitStack() as stack,
            ):
                if not stack.enter_context(locked(file, shared=True)):
                    return True
        return False

    def check_free(self) -> None:
        """Raises a `RuntimeError` if a process is training this run."""
        if self.is_held():
            raise RuntimeError(self._busy())

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the run for the block; a `RuntimeError` if another process does."""
        with locked(self.lock, temporary=True) as free:
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
                f"{need / 1e6:,.0f} MB for its models. Free space, or choose another "
                "--runs directory."
            )
