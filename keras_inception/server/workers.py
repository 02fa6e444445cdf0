"""Threads that answer the requests of REST and gRPC within limits."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from keras_inception.server.limits import Limits, ServingError

Answer = TypeVar("Answer")
_thread = threading.local()  # `until`: the time after which nobody waits for its answer


def check_time() -> None:
    """Raises a `ServingError` (504) if this thread's answer would be too late."""
    if time.monotonic() > getattr(_thread, "until", float("inf")):
        raise ServingError("No answer in time", 504)


class Workers:
    """Threads that answer requests; enforces `limits.queue` and `limits.seconds`."""

    def __init__(self, limits: Limits):
        self._limits = limits
        # A thread for each request: in TensorFlow it waits for its batch.
        self._threads = ThreadPoolExecutor(limits.queue, "request")
        self.in_progress = 0  # or waiting for a thread

    def load(self) -> float:
        """The requests in progress, as a share of the most that there can be."""
        return self.in_progress / self._limits.queue

    async def run(
        self,
        function: Callable[..., Answer],
        *arguments: object,
        done: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Runs a function in a thread, or raises a `ServingError` (503 or 504).

        `done` is called when the arguments are no longer used: after a 504, that is
        when the function has ended.
        """
        most = self._limits.queue
        if self.in_progress >= most:
            done()
            raise ServingError(f"{most} requests are in progress. Try again", 503)
        self.in_progress += 1
        until = time.monotonic() + self._limits.seconds

        def work() -> Answer:
            _thread.until = until
            return function(*arguments)

        def finished(running: asyncio.Future) -> None:
            self.in_progress -= 1
            done()
            if not running.cancelled():
                running.exception()  # else asyncio warns that it was never retrieved

        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # It counts until it is done, even if nobody still waits for it.
        running.add_done_callback(finished)
        try:
            return await asyncio.wait_for(asyncio.shield(running), self._limits.seconds)
        except TimeoutError:
            raise ServingError(
                f"No answer within {self._limits.seconds:g} seconds", 504
            ) from None
