"""Threads that answer requests within limits, and metrics for Prometheus."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import prometheus_client

from keras_inception.server.limits import Limits, ServingError

Answer = TypeVar("Answer")


class Workers:
    """Threads that answer requests; enforces `limits.queue` and `limits.seconds`."""

    def __init__(self, limits: Limits):
        self._limits = limits
        # A thread for each request: in TensorFlow it waits for its batch.
        self._threads = ThreadPoolExecutor(limits.queue, "request")
        self.in_progress = 0  # or waiting for a thread

    async def run(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """Runs a function in a thread, or raises a `ServingError` (503 or 504)."""
        most = self._limits.queue
        if self.in_progress >= most:
            raise ServingError(f"{most} requests are in progress. Try again", 503)
        self.in_progress += 1
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
        self.in_progress -= 1
        if not running.cancelled():
            running.exception()  # else asyncio warns that it was never retrieved


class Metrics:
    """Counts and times requests."""

    def __init__(self, workers: Workers):
        registry = self._registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "keras_inception_requests",
            "Requests by method and HTTP status.",
            ("method", "status"),
            registry=registry,
        )
        self._seconds = prometheus_client.Histogram(
            "keras_inception_request_seconds",
            "Seconds from the arrival of the body to the answer.",
            ("method",),
            registry=registry,
        )
        prometheus_client.Gauge(
            "keras_inception_requests_under_way",
            "Requests in progress or waiting.",
            registry=registry,
        ).set_function(lambda: workers.in_progress)
        self._available = prometheus_client.Gauge(
            "keras_inception_version_available",
            "1 for every version that is served.",
            ("model", "version"),
            registry=registry,
        )

    def count(self, method: str, status: int) -> None:
        """Counts an answered request."""
        self._requests.labels(method, status).inc()

    def time(self, method: str) -> contextlib.AbstractContextManager:
        """Measures the seconds that the block takes."""
        return self._seconds.labels(method).time()

    def text(self, model: str, available: Iterable[int]) -> bytes:
        """All metrics in Prometheus's format, with the versions that are served."""
        self._available.clear()
        for number in available:
            self._available.labels(model, number).set(1)
        return prometheus_client.generate_latest(self._registry)
