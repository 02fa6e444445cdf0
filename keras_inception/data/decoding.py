"""From a picture's bytes to pixels, in TensorFlow operations alone.

Runs in the graphs of pipelines and inside exported models, so also in TF Serving.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_inception.data import exif
from keras_inception.data.decoders import (
    apart,
    checked,
    decode_bmp,
    decode_gif,
    decode_webp,
)

# A function from a picture's shape `(height, width, channels)` to the part of it to
# use, `(top, left, height, width)`; both are int32 tensors.
Window = Callable[[tf.Tensor], tf.Tensor]


def decode(contents: tf.Tensor) -> tf.Tensor:
    """Decodes the first frame of JPEG, PNG, GIF, BMP or WebP bytes to uint8 RGB.

    Turns the picture upright as its Exif data say, drops alpha, repeats gray three
    times and reduces 16 bits to 8. Other bytes raise an
    `tf.errors.InvalidArgumentError`.
    """

    def decode_jpeg() -> tf.Tensor:
        picture = tf.io.decode_jpeg(contents, channels=3)
        return exif.turn_upright(picture, exif.jpeg_orientation(contents))

    picture = tf.cond(
        tf.io.is_jpeg(contents), decode_jpeg, lambda: _decode_other(contents)
    )
    picture.set_shape((None, None, 3))
    return picture


def decode_plain(contents: tf.Tensor) -> tf.Tensor:
    """Does what `decode` does, for a JPEG or PNG that is stored upright.

    Its small graph makes an epoch begin half a second earlier.
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

    def resized() -> tf.Tensor:
        # Without antialiasing a photograph shrunk tenfold keeps a hundredth of its
        # pixels.
        return tf.image.resize(square, (side, side), "bilinear", antialias=True)

    # Resizing to the same size changes nothing, at twice the cost of decoding.
    fitted = tf.cond(tf.equal(edge, side), lambda: square, resized)
    return tf.ensure_shape(fitted, (side, side, 3))


def crop(picture: tf.Tensor, window: Window) -> tf.Tensor:
    """Cuts out the part of a picture `(height, width, 3)` that `window` selects."""
    top, left, height, width = tf.unstack(window(tf.shape(picture)))
    return picture[top : top + height, left : left + width]


def decode_window(contents: tf.Tensor, window: Window, side: int) -> tf.Tensor:
    """Decodes a part of the upright picture that will be resized to `side` pixels.

    Of a JPEG only that part is decoded. If the part is at least 2, 4 or 8 times as
    large as `side`, it is decoded at that fraction of its size, which costs far less.
    """

    def decode_part_of_jpeg() -> tf.Tensor:
        orientation = exif.jpeg_orientation(contents)
        stored = tf.io.extract_jpeg_shape(contents)
        part = window(exif.upright_shape(stored, orientation))
        part = exif.stored_window(part, stored, orientation)
        return exif.turn_upright(_decode_part(contents, part, side), orientation)

    return tf.cond(
        tf.io.is_jpeg(contents),
        decode_part_of_jpeg,
        lambda: crop(_decode_other(contents), window),
    )


def decode_plain_window(contents: tf.Tensor, window: Window, side: int) -> tf.Tensor:
    """Does what `decode_window` does, for a JPEG or PNG that is stored upright."""
    return tf.cond(
        tf.io.is_jpeg(contents),
        lambda: _decode_part(
            contents, window(tf.io.extract_jpeg_shape(contents)), side
        ),
        lambda: crop(decode_plain(contents), window),
    )


def _decode_part(contents: tf.Tensor, part: tf.Tensor, side: int) -> tf.Tensor:
    """Decodes a part of a JPEG as it is stored, at the smallest size that suffices."""
    shrinking = tf.minimum(part[2], part[3]) // side
    branches = [
        lambda ratio=ratio: tf.io.decode_and_crop_jpeg(
            contents, part // ratio, channels=3, ratio=ratio
        )
        for ratio in (1, 2, 4, 8)
    ]
    index = sum(tf.cast(shrinking >= ratio, tf.int32) for ratio in (2, 4, 8))
    return tf.switch_case(index, branches)


@apart(tf.TensorSpec((), tf.string))
def _decode_other(contents: tf.Tensor) -> tf.Tensor:
    def decode_png() -> tf.Tensor:
        picture = tf.io.decode_png(contents, channels=3)
        return exif.turn_upright(picture, exif.png_orientation(contents))

    return tf.cond(
        tf.strings.substr(contents, 0, 8) == b"\x89PNG\r\n\x1a\n",
        decode_png,
        lambda: _decode_rare(contents),
    )


@apart(tf.TensorSpec((), tf.string))
def _decode_rare(contents: tf.Tensor) -> tf.Tensor:
    def decode_upright() -> tf.Tensor:
        picture = decode_webp(contents)
        return exif.turn_upright(picture, exif.webp_orientation(contents))

    start = tf.strings.substr(contents, 0, 12)
    kind = tf.stack(
        [
            tf.strings.regex_full_match(start, pattern)
            for pattern in (rb"GIF8\C*", rb"BM\C*", rb"RIFF\C{4}WEBP", rb"\C*")
        ]
    )
    empty = tf.zeros((1, 1, 3), tf.uint8)
    return tf.switch_case(
        tf.argmax(tf.cast(kind, tf.int32), output_type=tf.int32),
        [
            lambda: decode_gif(contents),
            lambda: decode_bmp(contents),
            decode_upright,
            lambda: checked(empty, False, "bytes of another format"),
        ],
    )
