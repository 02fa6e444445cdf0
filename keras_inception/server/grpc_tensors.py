"""TensorProto messages to arrays and back."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from keras_inception.server.limits import ServingError

# The field of a TensorProto that holds the values of a type. TF Serving answers with
# these, which clients in other languages read.
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "string": "string_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
} | dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int_val")


def to_array(
    name: str, proto: TensorProto, dtype: tf.DType | None, most_bytes: int
) -> np.ndarray:
    """The array in a message.

    Raises:
        ServingError: If the message contradicts itself, is not of the type that the
            signature takes, or declares more than `most_bytes`: a few bytes can declare
            gigabytes, since the last value stands for all that follow.
    """
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise ServingError(f"tensor parsing error: {name} has no full shape")
    try:
        found = tf.as_dtype(proto.dtype)
        np.dtype(found.as_numpy_dtype)
    except (TypeError, KeyError):
        raise ServingError(f"tensor parsing error: {name} has no known type") from None
    if dtype is not None and found != dtype:
        raise ServingError(
            f"{name} has type {found.name}; the signature takes {dtype.name}"
        )
    if math.prod(sizes) * (8 if found == tf.string else found.size) > most_bytes:
        raise ServingError(f"{name} declares more than {most_bytes:,} bytes", 413)
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise ServingError(f"tensor parsing error: {name}: {error}") from None


def to_proto(array: np.ndarray) -> TensorProto:
    """The message for an array, its values in the field of their type."""
    dtype = tf.as_dtype(array.dtype)
    if dtype.name not in _FIELDS:
        return tf.make_tensor_proto(array)
    shape = tf.TensorShape(array.shape).as_proto()
    proto = TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=shape)
    getattr(proto, _FIELDS[dtype.name]).extend(array.ravel().tolist())
    return proto
