"""Errors with the HTTP status that TF Serving gives them.

tensorflow_serving/model_servers/http_server.cc maps TensorFlow's codes to statuses.
"""

import tensorflow as tf

_STATUS = {
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
    """A request that can't be answered.

    Args:
        message: For the client.
        status: HTTP status. Defaults to 400, a fault of the request.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


def of_tensorflow(error: tf.errors.OpError) -> ServingError:
    """TensorFlow's error as one for the client, without the trace through the graph."""
    lines = [line.strip() for line in error.message.splitlines()]
    told = [
        line
        for line in lines
        if line
        and not line.startswith(("File ", "Graph execution error", "Detected at node"))
        and "[[{{node" not in line
        and "[Op:" not in line
    ]
    message = told[-1] if told else error.message.split("\n")[0]
    return ServingError(message, _STATUS.get(error.error_code, 500))
