"""Errors with the HTTP status that TF Serving gives them.

tensorflow_serving/model_servers/http_server.cc maps TensorFlow's error codes.
"""

import tensorflow as tf

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


class ServingError(Exception):
    """Raised for a request that can't be answered.

    Args:
        message: The message for the client.
        status: The HTTP status. Defaults to 400, a fault of the request.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


def from_tensorflow(error: tf.errors.OpError) -> ServingError:
    """Turns TensorFlow's error into one for the client, without the graph's trace."""
    lines = [line.strip() for line in error.message.splitlines()]
    trace = ("File ", "Graph execution error", "Detected at node")
    kept = [
        line
        for line in lines
        if line
        and not line.startswith(trace)
        and "[[{{node" not in line
        and "[Op:" not in line
    ]
    message = kept[-1] if kept else error.message.split("\n")[0]
    return ServingError(message, _STATUS_BY_CODE.get(error.error_code, 500))
