"""Ends a run before its last epoch: patience, a time limit, Ctrl-C."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_inception.training.callbacks import KeepBest

PATIENCE, TIME_LIMIT, INTERRUPTED = "patience", "time limit", "interrupted"


class Stopping(keras.callbacks.Callback):
    """Stops training after an epoch for the first reason that applies.

    Args:
        best: The run's; it comes before this callback.
        patience: Epochs without a new best after which training stops; `None` for no
            such limit.
        time_limit: Seconds that the run may take, or `None`. Training stops if an epoch
            as long as the last one would end later.
        spent: Seconds of `time_limit` that the run took before it was interrupted.
        interrupted: Returns whether to stop because the user wants it.

    Attributes:
        reason: `"patience"`, `"time limit"` or `"interrupted"`; `None` if training
            reached its last epoch.
    """

    def __init__(
        self,
        best: KeepBest,
        *,
        patience: int | None = None,
        time_limit: float | None = None,
        spent: float = 0.0,
        interrupted: Callable[[], bool] = lambda: False,
    ):
        super().__init__()
        self.best, self.patience, self.interrupted = best, patience, interrupted
        self.reason: str | None = None
        limit = float("inf") if time_limit is None else time_limit
        self._deadline = time.perf_counter() + limit - spent

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if epoch + 1 >= self.params["epochs"]:
            return
        if self.interrupted():
            self.reason = INTERRUPTED
        elif now + (now - self._began) > self._deadline:
            self.reason = TIME_LIMIT
        elif self.patience and epoch + 1 - (self.best.epoch or 0) >= self.patience:
            self.reason = PATIENCE
        if self.reason:
            self.model.stop_training = True


@contextlib.contextmanager
def first_interrupt() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed in the block.

    Only the second Ctrl-C raises a `KeyboardInterrupt`. Nothing changes where Ctrl-C
    has no effect: outside the main thread, and in a background job of a shell.
    """
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        pressed.set()
        print(
            "\nstopping after this epoch; press Ctrl-C again to stop now and lose it",
            flush=True,
        )

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or before is not signal.default_int_handler:
        yield pressed.is_set
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
