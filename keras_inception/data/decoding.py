"""From a picture's bytes to pixels in TensorFlow operations alone.

Runs in pipelines' graphs and inside exported models, so also in TF Serving.
"""

from collections.abc import Callable

import tensorflow as tf

# A function from a picture's shape `(height, width, channels)` to the part of it to
# use, `(top, left, height, width)`; both are int32 tensors.
Window = Callable[[tf.Tensor], tf.Tensor]


def decode(contents: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, PNG, GIF (first frame) or BMP bytes to uint8 RGB.

    Uses only TensorFlow operations, so that it works inside an exported model. Drops
    alpha, repeats gray three times and reduces 16 bits to 8.
    """
    picture = tf.io.decode_image(contents, channels=3, expand_animations=False)
    picture.set_shape((None, None, 3))
    return picture


def fit_square(picture: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes the largest centered square of a picture, uint8 or float, 0..255.

    Returns:
        float32 `(side, side, 3)`, 0..255.
    """
    shape = tf.shape(picture)
    edge = tf.minimum(shape[0], shape[1])
    top, left = (shape[0] - edge) // 2, (shape[1] - edge) // 2
    square = tf.cast(picture[top : top + edge, left : left + edge], tf.float32)
    # Without antialiasing a photograph shrunk tenfold keeps a hundredth of its pixels.
    resized = tf.image.resize(square, (side, side), "bilinear", antialias=True)
    return tf.ensure_shape(resized, (side, side, 3))


def crop(picture: tf.Tensor, window: Window) -> tf.Tensor:
    """Cuts out the part of a picture `(height, width, 3)` that `window` selects."""
    top, left, height, width = tf.unstack(window(tf.shape(picture)))
    return picture[top : top + height, left : left + width]


def decode_window(contents: tf.Tensor, window: Window, side: int) -> tf.Tensor:
    """Decodes a part of a JPEG, PNG, GIF or BMP that will be resized to `side` pixels.

    Of a JPEG only that part is decoded. If the part is at least 2, 4 or 8 times as
    large as `side`, it is decoded at that fraction of its size, which costs far less.
    """

    def decode_part_of_jpeg() -> tf.Tensor:
        part = window(tf.io.extract_jpeg_shape(contents))
        shrinking = tf.minimum(part[2], part[3]) // side
        branches = [
            lambda ratio=ratio: tf.io.decode_and_crop_jpeg(
                contents, part // ratio, channels=3, ratio=ratio
            )
            for ratio in (1, 2, 4, 8)
        ]
        index = sum(tf.cast(shrinking >= ratio, tf.int32) for ratio in (2, 4, 8))
        return tf.switch_case(index, branches)

    return tf.cond(
        tf.io.is_jpeg(contents),
        decode_part_of_jpeg,
        lambda: crop(decode(contents), window),
    )
