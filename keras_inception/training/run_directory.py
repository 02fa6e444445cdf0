"""A run's directory: which files it has, and who may write them."""

import contextlib
import shutil
from pathlib import Path

import keras
import numpy as np

from keras_inception.files import write_whole
from keras_inception.training.checkpoint import checkpoint_state, load_checkpoint


class RunFiles:
    """The files of one training run, whether they are there or not.

    Args:
        path: `runs/NAME`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.history = self.path / "history.csv"
        self.model = self.path / "model.keras"
        self.latest = self.path / "latest.keras"
        self.tensorboard = self.path / "tensorboard"
        self.result = self.path / "result.json"

    def checkpoint(self) -> tuple[keras.Model, dict] | None:
        """The model and the state to go on from; `None` before the first epoch ends."""
        return load_checkpoint(self.latest) if self.latest.is_file() else None

    def epochs_done(self) -> int:
        """After which epoch the checkpoint was written; 0 before the first."""
        if not self.latest.is_file():
            return 0
        return checkpoint_state(self.latest)["epochs"]

    def is_held(self) -> bool:
        """Whether a process trains here, on any machine that shares the disk."""
        with self._locked("rb", exclusive=False) as free:
            return not free

    def check_free(self) -> None:
        """Raises a `RuntimeError` if a process trains here."""
        if self.is_held():
            raise RuntimeError(
                f"{self.path} holds a run that another process is training right now."
            )

    @contextlib.contextmanager
    def hold(self):
        """Within the block `is_held` says yes; however the process ends, no longer.

        Raises:
            RuntimeError: If another process trains here.
        """
        with self._locked("r+b", exclusive=True) as free:
            if not free:
                self.check_free()
            yield

    @contextlib.contextmanager
    def _locked(self, mode: str, *, exclusive: bool):
        """Locks `config.json`, which a run writes once; yields whether it was free."""
        try:
            import fcntl
        except ImportError:  # Windows
            yield True
            return
        if not self.config.is_file():
            yield True
            return
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        with self.config.open(mode) as file:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


class RunDirectory(RunFiles):
    """The directory of a training run, made or found fit to go on in.

    Args:
        path: `runs/NAME`; made if it is not there.
        overwrite: Whether to delete an earlier run of this name. Defaults to False.
        resume: Whether to go on with the run that is there. Defaults to False.

    Raises:
        FileExistsError: If the directory holds a run that is neither to be overwritten
            nor resumed, is finished though it shall be resumed, or is no run.
        FileNotFoundError: If there is no run to resume.
        RuntimeError: If another process trains in it.
    """

    def __init__(
        self, path: str | Path, *, overwrite: bool = False, resume: bool = False
    ):
        super().__init__(path)
        if resume:
            self._check_resumable()
        elif self.path.exists() and (
            not self.path.is_dir() or any(self.path.iterdir())
        ):
            self._make_way(overwrite)
        self.path.mkdir(parents=True, exist_ok=True)

    def _check_resumable(self):
        if not self.config.is_file():
            raise FileNotFoundError(
                f"There is no run to resume in {self.path}: it has no config.json. "
                "Give the --name of a run that was begun, or leave --resume out."
            )
        if self.result.is_file():
            raise FileExistsError(
                f"{self.path} holds a finished run; there is nothing to resume."
            )
        self.check_free()

    def _make_way(self, overwrite: bool):
        if not self.config.is_file():
            raise FileExistsError(
                f"{self.path} is there already and is no training run; choose another "
                "place."
            )
        if not overwrite:
            finished = self.result.is_file()
            raise FileExistsError(
                f"{self.path} holds {'a finished' if finished else 'an unfinished'} "
                f"run. Give this one another --name, or --overwrite the old one"
                f"{'.' if finished else ', or --resume it.'}"
            )
        self.check_free()
        shutil.rmtree(self.path)

    def check_room(self, model: keras.Model) -> None:
        """Refuses a disk that can't hold the run's models.

        Raises:
            OSError: If the directory can't be written, or there is too little room for
                the best model, the latest and the one that is being written.
        """
        probe = self.path / ".partial-probe"
        write_whole(probe, lambda partial: partial.write_bytes(b"0" * 4096))
        probe.unlink()
        variables = [*model.variables, *model.optimizer.variables]
        need = 3 * sum(4 * int(np.prod(v.shape)) for v in variables)
        free = shutil.disk_usage(self.path).free
        if free < need:
            raise OSError(
                f"{self.path} has {free / 1e6:,.0f} MB of room, but this run needs "
                f"about {need / 1e6:,.0f} MB for its models. Free some, or give "
                "another --runs."
            )
