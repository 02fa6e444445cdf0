"""Callbacks of every run: its history, best and latest model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_inception.files import write_csv, write_whole
from keras_inception.outputs import MAIN
from keras_inception.training.checkpoint import averaged_weights, save_checkpoint

MONITOR = f"val_{MAIN}_accuracy"  # never val_loss, which contains the heads' losses


class History(keras.callbacks.Callback):
    """Writes `history.csv`, one line per epoch, after the `rows` of a resumed run."""

    def __init__(self, path: str | Path, rows: Sequence[dict] = ()):
        super().__init__()
        self.path = Path(path)
        self.rows = list(rows)

    def on_train_begin(self, logs: Any = None) -> None:
        if self.rows:  # drops epochs that a killed run wrote after its checkpoint
            self._write()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append({"epoch": epoch} | values)
        self._write()

    def _write(self) -> None:
        columns = list(self.rows[0])
        rows = ([row[name] for name in columns] for row in self.rows)
        write_csv(self.path, columns, rows)


class KeepBest(keras.callbacks.Callback):
    """Saves the model, or its averaged weights, when `val_main_accuracy` rises.

    `value` and its `epoch`, from 1, are the best so far of a resumed run.
    """

    def __init__(
        self, path: str | Path, value: float | None = None, epoch: int | None = None
    ):
        super().__init__()
        self.path = Path(path)
        self.value, self.epoch = value, epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        value = logs[MONITOR]
        if self.value is not None and value <= self.value:
            return
        self.value, self.epoch = float(value), epoch + 1
        # Keras's ModelCheckpoint writes in place: a kill would also cost the old file.
        with averaged_weights(self.model):
            write_whole(self.path, self.model.save)


class KeepLatest(keras.callbacks.Callback):
    """Writes a checkpoint after each epoch, with what `state(epoch)` returns."""

    def __init__(self, path: str | Path, state: Callable[[int], dict]):
        super().__init__()
        self.path, self.state = Path(path), state

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        save_checkpoint(self.model, self.path, self.state(epoch))
