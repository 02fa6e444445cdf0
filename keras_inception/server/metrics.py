"""Counts and times of requests for Prometheus: TF Serving's metrics, and this server's.

TF Serving's are those of tensorflow_serving/servables/tensorflow/util.cc, as
prometheus_exporter.cc prints them.
"""

import re
from collections.abc import Iterator

import grpc
import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from keras_inception.server.models import Models
from keras_inception.server.workers import Workers

# Metrics that TF Serving names without a suffix, and prometheus_client with one
_SUFFIX = re.compile(rb"^((?:# \w+ )?:tensorflow:serving:\w+)_total\b", re.M)
_CREATED = re.compile(rb"^(?:# \w+ )?:tensorflow:serving:\w+_created\b.*\n", re.M)


class _Exits(Collector):
    """Counts of the rows that the exits of the served versions have answered."""

    def __init__(self, models: Models):
        self._models = models

    def collect(self) -> Iterator[Metric]:
        labels = ("model", "version", "exit")
        exits = CounterMetricFamily(
            "keras_inception_exits", "Rows that each exit answered.", labels=labels
        )
        share = GaugeMetricFamily(
            "keras_inception_exit_share",
            "Share of the rows at the exported thresholds that each exit answered.",
            labels=labels,
        )
        calibrated = GaugeMetricFamily(
            "keras_inception_exit_share_calibrated",
            "The same share when the thresholds were calibrated: a lasting difference "
            "means that the pictures have changed.",
            labels=labels,
        )
        levels = CounterMetricFamily(
            "keras_inception_early_exit_level",
            "Rows answered at each level of --early-exit auto; 0 is as requested.",
            labels=("model", "version", "level"),
        )
        for manager in self._models.managers():
            for number, servable in manager.servables().items():
                of = (manager.name, str(number))
                for name, count in dict(servable.exits).items():
                    exits.add_metric((*of, name), count)
                counted = dict(servable.exits_as_exported)
                for name, count in counted.items():
                    share.add_metric((*of, name), count / sum(counted.values()))
                for name, expected in servable.calibrated_shares.items():
                    calibrated.add_metric((*of, name), expected)
                if highest := servable.highest_level:
                    for level in range(highest + 1):
                        count = servable.levels[level]
                        levels.add_metric((*of, str(level)), count)
        yield from (exits, share, calibrated, levels)


class Metrics:
    """Counts and times requests."""

    def __init__(self, models: Models, workers: Workers):
        self._models = models
        registry = self._registry = prometheus_client.CollectorRegistry()
        registry.register(_Exits(models))
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
        self._count = prometheus_client.Counter(
            ":tensorflow:serving:request_count",
            "The total number of requests.",
            ("model_name", "status"),
            registry=registry,
        )
        self._latency = prometheus_client.Histogram(
            ":tensorflow:serving:request_latency",
            "Distribution of wall time (in microseconds) for requests.",
            ("model_name", "API", "entrypoint"),
            buckets=[10 * 1.8**power for power in range(33)],
            registry=registry,
        )

    def record(
        self,
        door: str,
        method: str,
        model: str,
        code: grpc.StatusCode,
        status: int,
        seconds: float | None = None,
    ) -> None:
        """Counts an answered request, and its time if it reached the model.

        Args:
            door: `"REST"` or `"GRPC"`.
            method: `predict`, `status` and so on; with TF Serving's capital for gRPC.
            model: The model's name; an unknown one is counted as `""`, since names
                that clients invent would fill the memory.
            code: The gRPC status.
            status: The HTTP status.
            seconds: From the arrival of the body to the answer.
        """
        self._requests.labels(method.lower(), status).inc()
        if seconds is not None:
            self._seconds.labels(method.lower()).observe(seconds)
        if method.lower() not in ("predict", "classify", "regress"):
            return
        name = model if model in self._models.available() else ""
        self._count.labels(name, code.name).inc()
        if code == grpc.StatusCode.OK and seconds is not None:
            self._latency.labels(name, method, door).observe(seconds * 1e6)

    def text(self) -> bytes:
        """All metrics in Prometheus's format, with the versions that are served."""
        self._available.clear()
        for model, numbers in self._models.available().items():
            for number in numbers:
                self._available.labels(model, number).set(1)
        text = prometheus_client.generate_latest(self._registry)
        return _SUFFIX.sub(rb"\1", _CREATED.sub(b"", text))
