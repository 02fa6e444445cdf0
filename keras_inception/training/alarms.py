"""Saying early that a run is failing."""

import math
import sys

import keras
import numpy as np

from keras_inception.outputs import MAIN


class DivergenceError(RuntimeError):
    """A loss is no number any more; the message says whose it was first."""


class Alarms(keras.callbacks.Callback):
    """Watches every output's loss and accuracy, and speaks up.

    - A loss that is NaN or infinite ends the run with a `DivergenceError` that names
      the output; what was saved stays as it is.
    - An output whose training loss stays at ln(classes), pure chance, while another
      learns, is named after `patience` epochs. In caffe#1598 that lasted for 2.4
      million steps.
    - A main output that stays behind a head's validation accuracy is told once.

    Args:
        patience: Epochs before the last two. Defaults to 3.
        margin: How far, in accuracy, main must be behind. Defaults to 0.02.
        stream: Where warnings go. Defaults to standard error.
        state: What `state` was when the run was interrupted.

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
        stream=None,
        state: dict | None = None,
    ):
        super().__init__()
        self.patience, self.margin = patience, margin
        self.stream = stream or sys.stderr
        state = state or {}
        self.told: list[str] = list(state.get("told", ()))
        self._epochs_at_chance: dict[str, int] = dict(state.get("at_chance", {}))
        self._epochs_behind: int = state.get("behind", 0)

    @property
    def state(self) -> dict:
        """What it has counted and told so far, as JSON."""
        return {
            "told": self.told,
            "at_chance": self._epochs_at_chance,
            "behind": self._epochs_behind,
        }

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        logs = logs or {}
        if "loss" not in logs or math.isfinite(logs["loss"]):
            return
        losses = {name: logs[f"{name}_loss"] for name in self.model.output}
        broken = [name for name, loss in losses.items() if not math.isfinite(loss)]
        value = losses[broken[0]] if broken else logs["loss"]
        raise DivergenceError(
            f"The loss of {', '.join(broken) or 'the sum alone'} became {value} in "
            f"epoch {self._epoch + 1}, step {batch + 1}. Checkpoints from before are "
            "kept. Try a smaller learning rate, gradient clipping (global_clipnorm), "
            "or batch normalisation."
        )

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        self._look_for_chance(logs)
        self._look_for_a_better_head(logs)

    def _look_for_chance(self, logs):
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
                self._tell(
                    f"chance {name}",
                    f"{name} has not learnt anything in {count} epochs: its loss stays "
                    f"at {chance:.3f} = ln(classes), while {', '.join(others)} "
                    f"learn{'s' if len(others) == 1 else ''}. Try half the learning "
                    "rate, batch normalisation, or look at `keras-inception "
                    "gradients`.",
                )

    def _look_for_a_better_head(self, logs):
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
            self._tell(
                "behind",
                f"{MAIN} has been less accurate than {best} for {self._epochs_behind} "
                f"epochs ({logs[f'val_{MAIN}_accuracy']:.3f} against "
                f"{heads[best]:.3f}). The stages behind {best} may need longer, a "
                "smaller weight for the head, or may not be needed at all.",
            )

    def _tell(self, key: str, text: str):
        if key not in self.told:
            self.told.append(key)
            print(f"keras-inception: warning: {text}", file=self.stream, flush=True)
