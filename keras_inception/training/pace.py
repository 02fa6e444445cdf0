"""How long an epoch takes, from the first steps."""

import contextlib
import math
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

FORECAST_AFTER = 20  # steps
_WARM_UP = 3  # steps that are slower than the others
# Without a backward pass and augmentation a step takes about a third.
_VALIDATION_STEP = 0.35
_SAVING = 1.0  # seconds, with TensorBoard, in each epoch
# Seconds in the first epochs alone: tracing the validation, drawing the first pictures.
# Digits at width 0.25 on two cores: 6.8.
_FIRST = 6.0


class Pace(keras.callbacks.Callback):
    """Measures steps and epochs.

    Args:
        validation_steps: Steps of a validation; 0 if there is none.
    """

    def __init__(self, validation_steps: int = 0):
        super().__init__()
        self.validation_steps = validation_steps
        self._steps: list[float] = []
        self._between: list[float] = []  # from an epoch's last step to the next epoch
        self._last: float | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self._between.append(now - self._last)
        self._last = now

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        self._steps.append(now - (self._last or now))
        self._last = now

    @property
    def count(self) -> int:
        """The number of steps so far."""
        return len(self._steps)

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return statistics.median(self._steps[_WARM_UP:] or self._steps)

    @property
    def rest(self) -> float:
        """Seconds of an epoch besides its steps: validation, saving."""
        if len(self._between) > 1:  # the first includes the validation's tracing
            return statistics.median(self._between[1:])
        return self.validation_steps * self.step * _VALIDATION_STEP + _SAVING

    @property
    def first(self) -> float:
        """Seconds that the first epochs take in addition; 0 once they are over."""
        return 0.0 if self._between else _FIRST


def measure_pace(
    model: keras.Model, dataset: Any, steps: int, validation_steps: int
) -> Pace:
    """Trains a compiled model for some steps, and undoes what they did to it.

    Only the optimizer is left changed: compile the model again.

    Args:
        model: A compiled model.
        dataset: Batches, as for `fit`.
        steps: Steps of an epoch.
        validation_steps: Steps of a validation.
    """
    pace = Pace(validation_steps)
    with _unchanged(model):
        model.fit(
            dataset,
            steps_per_epoch=min(steps, FORECAST_AFTER),
            epochs=math.ceil(FORECAST_AFTER / steps),
            shuffle=False,
            verbose=0,
            callbacks=[pace],
        )
    pace._between.clear()  # nothing was validated or saved there
    return pace


@contextlib.contextmanager
def _unchanged(model: keras.Model) -> Iterator[None]:
    """Restores a model's variables and Python's random numbers after the block."""
    values = [keras.ops.convert_to_numpy(v) for v in model.variables]
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        for variable, value in zip(model.variables, values, strict=True):
            variable.assign(value)
        random.setstate(states[0])
        np.random.set_state(states[1])
