"""Limits on a request, how requests are batched, and the error for the client."""

import dataclasses
import re

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits on requests; exceeding each one has its own HTTP status.

    Attributes:
        body_bytes: Largest body of a request; beyond it 413.
        picture_pixels: Largest width times height of a picture, read from its header
            before it is decoded; beyond it 413.
        queue: Most requests that are in progress or waiting; beyond it 503.
        seconds: Time for a body to arrive (then 408), and from there to the answer
            (then 504).
    """

    body_bytes: int = 32 * 2**20
    picture_pixels: int = 25_000_000
    queue: int = 64
    seconds: float = 30.0


@dataclasses.dataclass(frozen=True)
class Batching:
    """How rows of concurrent requests are combined into batches.

    Attributes:
        rows: Most rows in a batch. A request with more is answered alone.
        micros: Microseconds that an idle server waits for more requests. While a batch
            runs, the next one gathers in any case.
        threads: Batches that run at once. With two, one decodes its pictures while the
            other computes.
    """

    rows: int = 32
    micros: int = 1000
    threads: int = 2


class ServingError(Exception):
    """Raised for a request that can't be answered, with the HTTP status to answer."""

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


# tensorflow_serving/model_servers/http_server.cc
_STATUS_BY_CODE = {
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.UNAUTHENTICATED: 401,
    tf.errors.PERMISSION_DENIED: 403,
    tf.errors.NOT_FOUND: 404,
    tf.errors.ALREADY_EXISTS: 409,
    tf.errors.ABORTED: 409,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.CANCELLED: 499,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.DEADLINE_EXCEEDED: 504,
}
# Lines of TensorFlow's messages that locate an error in the graph, and empty lines.
_TRACE = re.compile(
    r"$|File |Graph execution error|Detected at node|.*(\[\[\{\{node|\[Op:)"
)


def from_tensorflow(error: tf.errors.OpError) -> ServingError:
    """Turns TensorFlow's error into one line for the client, without the trace."""
    lines = error.message.split("\n")
    kept = [line for line in map(str.strip, lines) if not _TRACE.match(line)]
    message = (kept or lines[:1])[-1]
    return ServingError(message, _STATUS_BY_CODE.get(error.error_code, 500))
