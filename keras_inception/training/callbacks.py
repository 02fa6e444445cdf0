"""What watches a run: the best model kept, a line per epoch."""

import os
import sys
import time
from pathlib import Path

import keras

from keras_inception.supervision import MAIN

MONITOR = f"val_{MAIN}_accuracy"  # never val_loss, which contains the heads


class KeepBest(keras.callbacks.Callback):
    """Saves the model when `val_main_accuracy` rises, whole or not at all.

    Args:
        path: A file that ends in `.keras`.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.path = Path(path)
        self.value = None
        self.epoch = None

    def on_epoch_end(self, epoch, logs=None):
        value = logs[MONITOR]
        if self.value is not None and value <= self.value:
            return
        self.value, self.epoch = float(value), epoch + 1
        # ModelCheckpoint writes in place: a kill while it writes costs the old file too
        partial = self.path.with_name(f".partial-{self.path.name}")
        self.model.save(partial)
        os.replace(partial, self.path)


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
