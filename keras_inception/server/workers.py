"""Bounds on requests: their number, the time they take, and their bodies."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request

from keras_inception.server.errors import ServingError
from keras_inception.server.limits import Limits

Answer = TypeVar("Answer")


class Workers:
    """Threads that answer requests, within limits.

    Args:
        limits: Their `queue` and `seconds` are enforced.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        # A thread for each request: in TensorFlow it waits for its batch.
        self._threads = ThreadPoolExecutor(limits.queue, "request")
        self._in_progress = 0

    def in_progress(self) -> int:
        """The number of requests that are in progress or waiting."""
        return self._in_progress

    async def run(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Runs a function in a thread.

        Raises:
            ServingError: With status 503 if too many requests are in progress, and 504
                if the function takes too long.
        """
        if self._in_progress >= self._limits.queue:
            raise ServingError(
                f"{self._limits.queue} requests are in progress or waiting; the queue "
                "is full. Try again",
                503,
            )
        self._in_progress += 1
        running = asyncio.get_running_loop().run_in_executor(
            self._threads, function, *arguments
        )
        # It counts until it is done, even if nobody waits for it any more.
        running.add_done_callback(self._finished)
        try:
            return await asyncio.wait_for(asyncio.shield(running), self._limits.seconds)
        except TimeoutError:
            raise ServingError(
                f"No answer within {self._limits.seconds:g} seconds", 504
            ) from None

    def _finished(self, running: asyncio.Future) -> None:
        self._in_progress -= 1
        if not running.cancelled():
            running.exception()  # else asyncio warns that it was never retrieved


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request.

    Raises:
        ServingError: With status 413 if it is too large, and 408 if it is too slow.
    """
    most = limits.body_bytes
    too_large = ServingError(f"The body is larger than {most:,} bytes", 413)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise ServingError(
            f"The body did not arrive within {limits.seconds:g} seconds", 408
        ) from None
    return bytes(body)
