"""Refuses bad or too large pictures by their headers, before they are decoded."""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_inception.data.pictures import as_decodable_bytes, examine_bytes
from keras_inception.export.signatures import IMAGE_BYTES
from keras_inception.server.limits import ServingError


def check_pictures(
    inputs: Mapping[str, np.ndarray], most_pixels: int, examples: bool
) -> Mapping[str, np.ndarray]:
    """Returns the inputs with pictures that the signature can decode.

    With `examples`, an input `inputs` holds them in serialized `tf.Example`s.

    Refuses files that are not pictures, and pictures too large: a few kilobytes can
    declare a gigapixel. A picture that is refused here also can't fail the batch of
    other requests.
    """
    prepare: Callable[[bytes, int, int], bytes]
    if IMAGE_BYTES in inputs:
        name, prepare = IMAGE_BYTES, _decodable
    elif examples and list(inputs) == ["inputs"]:
        name, prepare = "inputs", _example
    else:
        return inputs
    array = inputs[name]
    if array.dtype != object:
        return inputs
    prepared = np.empty(array.size, object)
    for index, contents in enumerate(array.ravel()):
        prepared[index] = prepare(contents, most_pixels, index)
    return {**inputs, name: prepared.reshape(array.shape)}


def check_picture(contents: bytes, most_pixels: int, index: int = 0) -> None:
    """Raises a `ServingError` for contents that are not a picture, or too large a one.

    Reads their header, and inflates a PNG where that might take seconds.
    """
    _, (width, height), fault, kind, _ = examine_bytes(contents)
    if kind is None:
        raise ServingError(
            f"{IMAGE_BYTES} {index} is not a picture. Accepted are JPEG, PNG, GIF, BMP "
            'and WebP files and others that Pillow reads, sent as {"b64": ...} in '
            "the standard alphabet"
        )
    if width * height > most_pixels:
        raise ServingError(
            f"{IMAGE_BYTES} {index} has {width * height:,} pixels; at most "
            f"{most_pixels:,} are accepted",
            413,
        )
    if fault:
        raise ServingError(f"{IMAGE_BYTES} {index} can't be read: {fault}")


def _decodable(contents: bytes, most_pixels: int, index: int) -> bytes:
    check_picture(contents, most_pixels, index)
    try:
        return as_decodable_bytes(contents)
    except ValueError as error:
        raise ServingError(f"{IMAGE_BYTES} {index} can't be read: {error}") from None


def _example(serialized: bytes, most_pixels: int, index: int) -> bytes:
    """A serialized `tf.Example` with decodable pictures.

    It is written anew: TensorFlow's own parser may find another picture than
    protobuf's in a message that has a feature twice.
    """
    try:
        example = tf.train.Example.FromString(serialized)
    except DecodeError as error:  # TensorFlow might read one whose text is not UTF-8
        raise ServingError(f"Could not parse example {index}: {error}") from None
    example.DiscardUnknownFields()
    if IMAGE_BYTES in example.features.feature:
        value = example.features.feature[IMAGE_BYTES].bytes_list.value
        value[:] = [_decodable(contents, most_pixels, index) for contents in value]
    return example.SerializeToString()
