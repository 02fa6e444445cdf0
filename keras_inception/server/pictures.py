"""Refuses bad or too large pictures by their headers, before they are decoded."""

import contextlib
import io
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import GifImagePlugin, Image

from keras_inception.export.signatures import IMAGE_BYTES
from keras_inception.server.limits import ServingError


def check_pictures(inputs: Mapping[str, np.ndarray], most_pixels: int) -> None:
    """Refuses files that are not pictures, animations, and pictures too large.

    A few kilobytes can declare a gigapixel. A picture that is refused here also can't
    fail the batch of other requests.
    """
    for index, contents in enumerate(_pictures_in(inputs)):
        pixels: float
        try:
            with Image.open(io.BytesIO(contents)) as picture:
                pixels = picture.width * picture.height
                # TensorFlow decodes every frame, whatever their sizes
                animated = (
                    isinstance(picture, GifImagePlugin.GifImageFile)
                    and picture.is_animated
                )
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pixels, animated = float("inf"), False
        except Exception:  # a parser of hostile bytes can raise any type
            raise ServingError(
                f"{IMAGE_BYTES} {index} is not a picture. Accepted are JPEG, PNG, GIF "
                'and BMP files, sent as {"b64": ...} in the standard alphabet'
            ) from None
        if animated:
            raise ServingError(
                f"{IMAGE_BYTES} {index} is an animation; send one frame of it"
            )
        if pixels > most_pixels:
            raise ServingError(
                f"{IMAGE_BYTES} {index} has {pixels:,} pixels; at most "
                f"{most_pixels:,} are accepted",
                413,
            )


def _pictures_in(inputs: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """The picture files in a request's tensors, plain or inside `tf.Example`s."""
    yield from inputs.get(IMAGE_BYTES, np.array([])).ravel()
    if list(inputs) == ["inputs"] and inputs["inputs"].dtype == object:
        for serialized in inputs["inputs"].ravel():
            with contextlib.suppress(DecodeError):  # TensorFlow reports it
                features = tf.train.Example.FromString(serialized).features.feature
                yield from features[IMAGE_BYTES].bytes_list.value
