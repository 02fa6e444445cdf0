"""Metrics of the server for Prometheus."""

import contextlib
from collections.abc import Callable, Iterable

import prometheus_client

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class Metrics:
    """Counts and times requests.

    Args:
        in_progress: Returns the number of requests that are in progress or waiting.
    """

    def __init__(self, in_progress: Callable[[], int]):
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
        ).set_function(in_progress)
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
        """All metrics in Prometheus's format.

        Args:
            model: The model's name.
            available: Its versions that are served.
        """
        self._available.clear()
        for number in available:
            self._available.labels(model, number).set(1)
        return prometheus_client.generate_latest(self._registry)
