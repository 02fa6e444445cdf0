"""What watches a run: the best model kept, a line per epoch."""

import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_inception.files import write_whole
from keras_inception.outputs import MAIN
from keras_inception.training.checkpoint import averaged_weights

MONITOR = f"val_{MAIN}_accuracy"  # never val_loss, which contains the heads


class History(keras.callbacks.Callback):
    """Writes what each epoch brought to `history.csv`, a line per epoch.

    Args:
        path: The file, written anew after each epoch, whole or not at all.
        rows: The epochs before, if the run is resumed.
    """

    def __init__(self, path: str | Path, rows: Sequence[dict] = ()):
        super().__init__()
        self.path = Path(path)
        self.rows = list(rows)

    def on_train_begin(self, logs=None):
        if self.rows:  # without the epochs that a kill left behind the checkpoint
            self._write()

    def on_epoch_end(self, epoch, logs=None):
        figures = {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append({"epoch": epoch} | figures)
        self._write()

    def _write(self):
        def write(partial):
            with partial.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.rows[0])
                writer.writeheader()
                writer.writerows(self.rows)

        write_whole(self.path, write)


class KeepBest(keras.callbacks.Callback):
    """Saves the model when `val_main_accuracy` rises, whole or not at all.

    With averaged weights (`use_ema`) they are what is saved.

    Args:
        path: A file that ends in `.keras`.
        value: The best value so far, if the run is resumed.
        epoch: The epoch, from 1, that brought it.
    """

    def __init__(
        self, path: str | Path, value: float | None = None, epoch: int | None = None
    ):
        super().__init__()
        self.path = Path(path)
        self.value, self.epoch = value, epoch

    def on_epoch_end(self, epoch, logs=None):
        value = logs[MONITOR]
        if self.value is not None and value <= self.value:
            return
        self.value, self.epoch = float(value), epoch + 1
        # ModelCheckpoint writes in place: a kill while it writes costs the old file too
        with averaged_weights(self.model):
            write_whole(self.path, self.model.save)


class Progress(keras.callbacks.Callback):
    """Prints a line per epoch: the loss, and the accuracy of every output.

    Where the output is a terminal the line counts the steps while an epoch runs.
    """

    def __init__(self, stream=None):
        super().__init__()
        self.stream = stream or sys.stdout

    def on_train_begin(self, logs=None):
        self._print("epoch      loss   validation accuracy")

    def on_epoch_begin(self, epoch, logs=None):
        self._label = f"{epoch + 1:>3}/{self.params['epochs']:<4}"
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if self.stream.isatty():
            steps = self.params.get("steps") or "?"
            self._print(f"\r{self._label} step {batch + 1}/{steps}\033[K", end="")

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        accuracies = "  ".join(
            f"{name} {logs[f'val_{name}_accuracy']:.3f}" for name in self.model.output
        )
        start = "\r\033[K" if self.stream.isatty() else ""
        loss = f"{logs['loss']:>7.3f}"
        self._print(f"{start}{self._label} {loss}   {accuracies}  {seconds:5.1f} s")

    def _print(self, text, end="\n"):
        print(text, end=end, file=self.stream, flush=True)
