"""Early warnings that a run is failing."""

import math
import sys
from typing import Any, TextIO

import keras
import numpy as np

from keras_inception.outputs import MAIN


class DivergenceError(RuntimeError):
    """Raised when a loss becomes NaN or infinite; the message names the output."""


class Alarms(keras.callbacks.Callback):
    """Watches every output's loss and accuracy, and warns.

    - A loss that becomes NaN or infinite ends the run with a `DivergenceError` that
      names the output; saved files stay as they are.
    - Warns of an output whose training loss stays at ln(classes), the loss of guessing,
      for `patience` epochs while another output learns. In caffe#1598 that lasted for
      2.4 million steps.
    - Warns once if main's validation accuracy stays below a head's.

    Args:
        patience: Epochs before the two warnings. Defaults to 3.
        margin: How far, in accuracy, main must be below a head. Defaults to 0.02.
        stream: Where warnings go. Defaults to standard error.
        state: The value of `state` when the run was interrupted.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, width=0.125)
    >>> model.compile(keras.optimizers.SGD(1e30))
    >>> images, labels = np.ones((2, 64, 64, 3)), np.array([0, 1])
    >>> watched = {"epochs": 5, "callbacks": [Alarms()], "verbose": 0}
    >>> try:
    ...     history = model.fit(images, labels, **watched)
    ... except DivergenceError as error:
    ...     print(str(error)[:16])
    The loss of main
    """

    def __init__(
        self,
        patience: int = 3,
        margin: float = 0.02,
        stream: TextIO | None = None,
        state: dict | None = None,
    ):
        super().__init__()
        self.patience, self.margin = patience, margin
        self.stream = stream or sys.stderr
        state = state or {}
        self.warned: list[str] = list(state.get("told", ()))
        self._epochs_at_chance: dict[str, int] = dict(state.get("at_chance", {}))
        self._epochs_behind: int = state.get("behind", 0)

    @property
    def state(self) -> dict:
        """Counts and warnings so far, as JSON."""
        return {
            "told": self.warned,  # its name in the checkpoints of earlier versions
            "at_chance": self._epochs_at_chance,
            "behind": self._epochs_behind,
        }

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        logs = logs or {}
        if "loss" not in logs or math.isfinite(logs["loss"]):
            return
        losses = {name: logs[f"{name}_loss"] for name in self.model.output}
        broken = [name for name, loss in losses.items() if not math.isfinite(loss)]
        value = losses[broken[0]] if broken else logs["loss"]
        raise DivergenceError(
            f"The loss of {', '.join(broken) or 'all outputs together'} became {value} "
            f"in epoch {self._epoch + 1}, step {batch + 1}. Earlier checkpoints are "
            "kept. Try a smaller learning rate, gradient clipping (global_clipnorm), "
            "or batch normalization."
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        self._check_chance(logs)
        self._check_better_head(logs)

    def _check_chance(self, logs):
        learns = {}
        for name, output in self.model.output.items():
            chance = math.log(output.shape[-1])
            loss = logs.get(f"{name}_loss", 0.0)
            learns[name] = loss < 0.9 * chance
            stuck = abs(loss - chance) < 0.01 * chance
            count = self._epochs_at_chance.get(name, 0)
            self._epochs_at_chance[name] = count + 1 if stuck else 0
        for name, count in self._epochs_at_chance.items():
            others = [other for other, learning in learns.items() if learning]
            if count >= self.patience and others:
                chance = math.log(self.model.output[name].shape[-1])
                self._warn(
                    f"chance {name}",
                    f"{name} has not learned anything in {count} epochs: its loss "
                    f"stays at {chance:.3f} = ln(classes), while {', '.join(others)} "
                    f"learn{'s' if len(others) == 1 else ''}. Try half the learning "
                    "rate or batch normalization, or see `keras-inception gradients`.",
                )

    def _check_better_head(self, logs):
        heads = {
            name: logs.get(f"val_{name}_accuracy", -np.inf)
            for name, output in self.model.output.items()
            if output.shape[-1] == self.model.output[MAIN].shape[-1] and name != MAIN
        }
        if not heads:
            return
        best = max(heads, key=heads.get)
        behind = logs.get(f"val_{MAIN}_accuracy", np.inf) < heads[best] - self.margin
        self._epochs_behind = self._epochs_behind + 1 if behind else 0
        if self._epochs_behind >= self.patience:
            self._warn(
                "behind",
                f"{MAIN} has been less accurate than {best} for {self._epochs_behind} "
                f"epochs ({logs[f'val_{MAIN}_accuracy']:.3f} against "
                f"{heads[best]:.3f}). Train longer or lower that head's weight; or the "
                "stages after it are not needed.",
            )

    def _warn(self, key: str, text: str):
        if key not in self.warned:
            self.warned.append(key)
            print(f"keras-inception: warning: {text}", file=self.stream, flush=True)
