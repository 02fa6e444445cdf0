"""One line per epoch, and how long a run will take."""

import sys
import time
from typing import Any, TextIO

import keras

from keras_inception.text import duration
from keras_inception.training.pace import FORECAST_AFTER, Pace


class Progress(keras.callbacks.Callback):
    """Prints one line per epoch: the loss, and every output's validation accuracy.

    After 20 steps a line estimates how long the run will take. On a terminal a bar
    shows the steps, their rate and the time left.

    Args:
        pace: The run's; it comes before this callback.
        stream: Where to print. Defaults to stdout.
    """

    def __init__(self, pace: Pace, stream: TextIO | None = None):
        super().__init__()
        self.pace, self.stream = pace, stream or sys.stdout

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
        self._epochs_left = epochs - epoch
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.update()
        steps = self.params["steps"]
        if self.pace.count == FORECAST_AFTER and steps:
            left = self._epochs_left * steps - batch - 1
            seconds = left * self.pace.step + self._epochs_left * self.pace.rest
            seconds += self.pace.first
            self._write(
                f"about {duration(seconds)} left: {left} steps of "
                f"{self.pace.step:.2g} s, and validation"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self._started
        accuracies = "  ".join(
            f"{name} {logs[f'val_{name}_accuracy']:.3f}" for name in self.model.output
        )
        self._write(
            f"{epoch + 1:>3}/{self.params['epochs']:<4} {logs['loss']:>7.3f}   "
            f"{accuracies}  {seconds:5.1f} s"
        )

    def _write(self, line: str) -> None:
        self._bar.write(line, file=self.stream)
        self.stream.flush()

    def on_train_end(self, logs: Any = None) -> None:
        if self._bar is not None:
            self._bar.close()
