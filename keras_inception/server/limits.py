"""Limits on a request, how requests are batched, and the error for the client."""

import dataclasses
import re

import grpc
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits on requests; exceeding each one has its own HTTP status.

    Attributes:
        body_bytes: Largest body of a REST request; beyond it 413.
        message_bytes: Largest gRPC message, and largest tensor in one (a few bytes can
            declare gigabytes); beyond it RESOURCE_EXHAUSTED.
        picture_pixels: Largest width times height of a picture, read from its header
            before it is decoded; beyond it 413.
        queue: Most requests that are in progress or waiting; beyond it 503.
        seconds: Time for a body to arrive (then 408), and from there to the answer
            (then 504).
    """

    body_bytes: int = 32 * 2**20
    message_bytes: int = 256 * 2**20
    picture_pixels: int = 25_000_000
    queue: int = 64
    seconds: float = 30.0


@dataclasses.dataclass(frozen=True)
class Batching:
    """How rows of concurrent requests are combined into batches.

    Attributes:
        rows: Most rows in a batch. A request with more runs in several.
        micros: Microseconds that an idle server waits for more requests, except after a
            batch of a single request. While a batch runs, the next one gathers in any
            case.
        threads: Batches of a signature that run at once. With two, one decodes its
            pictures while the other computes.
        every: Whether models are batched that this package did not export. An answer
            of such a model may depend on all rows of its batch.
        combine: Whether requests share batches at all. If not, `rows` is the most of
            one request that is computed at once.
    """

    rows: int = 32
    micros: int = 1000
    threads: int = 2
    every: bool = False
    combine: bool = True


# tensorflow_serving/model_servers/http_server.cc
_STATUS_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_CODE_BY_STATUS = {status: code for code, status in _STATUS_BY_CODE.items()} | {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_CODE_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class ServingError(Exception):
    """Raised for a request that can't be answered.

    Attributes:
        status: The HTTP status to answer.
        code: The gRPC status; defaults to the one that HTTP's stands for.
    """

    def __init__(
        self, message: str, status: int = 400, code: grpc.StatusCode | None = None
    ):
        super().__init__(message)
        self.status = status
        self.code = code or _CODE_BY_STATUS.get(status, grpc.StatusCode.INTERNAL)


def failed_precondition(message: str) -> ServingError:
    """The error for a request that is well formed but does not fit the model."""
    return ServingError(message, code=grpc.StatusCode.FAILED_PRECONDITION)


# Lines of TensorFlow's messages that locate an error in the graph, and empty lines.
_TRACE = re.compile(
    r"$|File |Graph execution error|Detected at node|\d+ (root|successful|derived) "
    r"|.*(\[\[\{\{|\[Op:)"
)


def from_tensorflow(error: tf.errors.OpError) -> ServingError:
    """Turns TensorFlow's error into one line for the client, without the trace."""
    lines = error.message.split("\n")
    kept = [line for line in map(str.strip, lines) if not _TRACE.match(line)]
    message = (kept or lines[:1])[-1]
    code = code_of(error)
    return ServingError(message, _STATUS_BY_CODE.get(code, 500), code)


def code_of(error: Exception) -> grpc.StatusCode:
    """The status that an exception stands for, such as NOT_FOUND."""
    if isinstance(error, ServingError):
        return error.code
    if isinstance(error, tf.errors.OpError):
        return _CODE_BY_NUMBER.get(error.error_code, grpc.StatusCode.UNKNOWN)
    if isinstance(error, OSError):  # TensorFlow's loader: a file is missing
        return grpc.StatusCode.NOT_FOUND
    if isinstance(error, ValueError):
        return grpc.StatusCode.INVALID_ARGUMENT
    return grpc.StatusCode.UNKNOWN
