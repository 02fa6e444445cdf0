"""Callbacks of every run: its history, best and latest model, and progress."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

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


class Progress(keras.callbacks.Callback):
    """Prints one line per epoch: the loss, and every output's validation accuracy.

    On a terminal a bar below shows the steps, their rate and the time left for the run.
    """

    def __init__(self, stream: TextIO | None = None):
        super().__init__()
        self.stream = stream or sys.stdout

    def on_train_begin(self, logs: Any = None) -> None:
        print("epoch      loss   validation accuracy", file=self.stream, flush=True)
        self._bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        from tqdm import tqdm

        steps, epochs = self.params["steps"], self.params["epochs"]
        if self._bar is None:
            self._bar = tqdm(
                total=steps and steps * (epochs - epoch),
                unit=" step",
                file=self.stream,
                disable=not self.stream.isatty(),
                leave=False,
                dynamic_ncols=True,
            )
        self._bar.set_description(f"epoch {epoch + 1}/{epochs}")
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self._started
        accuracies = "  ".join(
            f"{name} {logs[f'val_{name}_accuracy']:.3f}" for name in self.model.output
        )
        self._bar.write(
            f"{epoch + 1:>3}/{self.params['epochs']:<4} {logs['loss']:>7.3f}   "
            f"{accuracies}  {seconds:5.1f} s",
            file=self.stream,
        )
        self.stream.flush()

    def on_train_end(self, logs: Any = None) -> None:
        if self._bar is not None:
            self._bar.close()
