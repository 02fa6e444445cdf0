"""Exif orientation of JPEG, PNG and WebP, read and applied by TensorFlow operations.

An orientation, 1 to 8, says how the stored picture has to be turned and mirrored to be
upright. `headers` reads it without TensorFlow, where sizes are asked for.
"""

import numpy as np
import tensorflow as tf

from keras_inception.data.decoders import apart, bytes_of, find_chunk, number
from keras_inception.data.headers import MOST_EXIF, MOST_STEPS

_SEGMENT = b"\xff\xe1Exif\0\0"
# Whether to exchange rows and columns, then to reverse the rows, then the columns.
_TURNS = np.array(
    [
        *((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
        *((1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0)),
    ],
    bool,
)


def jpeg_orientation(contents: tf.Tensor) -> tf.Tensor:
    """The orientation in the first Exif segment of a JPEG; 1 if there is none."""
    start = _bytes_at(contents, 0, 22)
    # the usual beginning: JFIF's segment, then tables; Exif data would precede those
    plain = tf.reduce_all(start[3:6] == [0xE0, 0, 16]) & (start[21] < 0xE0)
    return tf.cond(plain, lambda: tf.constant(1), lambda: _of_segments(contents))


def png_orientation(contents: tf.Tensor) -> tf.Tensor:
    """The orientation in a PNG's chunk eXIf before its pixels; 1 if there is none."""
    plain = tf.strings.substr(contents, 37, 4) == b"IDAT"
    return tf.cond(plain, lambda: tf.constant(1), lambda: _of_chunks(contents))


def webp_orientation(contents: tf.Tensor) -> tf.Tensor:
    """The orientation in a WebP's chunk EXIF; 1 if it declares none."""

    def read() -> tf.Tensor:
        position = find_chunk(contents, 30, (b"EXIF",))
        size = tf.minimum(number(contents, position + 4, 4), MOST_EXIF)
        exif = tf.strings.substr(contents, position + 8, size)
        named = tf.strings.substr(exif, 0, 6) == b"Exif\0\0"
        return orientation_of(
            tf.strings.substr(exif, tf.where(named, np.int64(6), np.int64(0)), size)
        )

    declared = tf.strings.substr(contents, 12, 4) == b"VP8X"
    declared &= number(contents, 20, 1) // 8 % 2 == 1
    return tf.cond(declared, read, lambda: tf.constant(1))


@apart(tf.TensorSpec((), tf.string))
def _of_segments(contents: tf.Tensor) -> tf.Tensor:
    def is_exif(start: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.gather(start, [0, 1, *range(4, 10)]) == [*_SEGMENT])

    def is_other(position: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        # applications' segments, comments, and 0xff that fills a gap
        return (start[0] == 0xFF) & (start[1] >= 0xE0) & ~is_exif(start)

    def following(position: tf.Tensor, start: tf.Tensor) -> tuple:
        position += tf.where(start[1] == 0xFF, 1, 2 + 256 * start[2] + start[3])
        return position, _bytes_at(contents, position, 10)

    first = tf.constant(2)
    position, start = tf.while_loop(
        is_other,
        following,
        (first, _bytes_at(contents, first, 10)),
        maximum_iterations=MOST_STEPS,
    )
    size = 256 * start[2] + start[3] - 8
    return tf.cond(
        is_exif(start),
        lambda: orientation_of(tf.strings.substr(contents, position + 10, size)),
        lambda: tf.constant(1),
    )


@apart(tf.TensorSpec((), tf.string))
def _of_chunks(contents: tf.Tensor) -> tf.Tensor:
    position = find_chunk(contents, 33, (b"eXIf", b"IDAT"), png=True)
    size = tf.minimum(number(contents, position, 4, big_endian=True), MOST_EXIF)
    return tf.cond(
        tf.strings.substr(contents, position + 4, 4) == b"eXIf",
        lambda: orientation_of(tf.strings.substr(contents, position + 8, size)),
        lambda: tf.constant(1),
    )


def _bytes_at(contents: tf.Tensor, position: tf.Tensor | int, count: int) -> tf.Tensor:
    """Bytes as int32, as if zeros followed the end."""
    part = tf.strings.substr(contents, position, count)
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int32)


def orientation_of(exif: tf.Tensor) -> tf.Tensor:
    """The orientation that an Exif block (TIFF) states; 1 if it states none."""
    data = tf.cast(bytes_of(exif), tf.int64)
    count = tf.size(data, tf.int64)
    data = tf.pad(data, [[0, 14]])
    little = data[0] == ord("I")

    def value(part: tf.Tensor) -> tf.Tensor:
        """Numbers in the byte order of the block, along the last axis."""
        powers = 256 ** tf.range(tf.shape(part, tf.int64)[-1])
        return tf.reduce_sum(part * tf.where(little, powers, powers[::-1]), -1)

    known = tf.reduce_any(
        [tf.reduce_all(data[:4] == [*order]) for order in (b"II*\0", b"MM\0*")]
    )
    start = tf.minimum(value(data[4:8]), count)
    entries = tf.minimum(value(data[start : start + 2]), (count - start - 2) // 12)
    entries = tf.where(known, tf.maximum(entries, 0), 0)
    table = tf.reshape(data[start + 2 : start + 2 + 12 * entries], (-1, 12))
    kind = value(table[:, 2:4])  # 3: 16 bits, 4: 32 bits
    tagged = (value(table[:, :2]) == 0x0112) & (value(table[:, 4:8]) == 1)
    found = tf.where(kind == 3, value(table[:, 8:10]), value(table[:, 8:12]))
    found = tf.boolean_mask(found, tagged & ((kind == 3) | (kind == 4)))
    first = tf.concat([found, [1]], 0)[0]
    return tf.cast(tf.where((first >= 1) & (first <= 8), first, 1), tf.int32)


def turn_upright(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a stored picture `(height, width, 3)` as its orientation asks."""
    return tf.cond(
        orientation == 1, lambda: picture, lambda: _turned(picture, orientation)
    )


@apart(tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int32))
def _turned(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    def turn(exchange: bool, *reverse: bool) -> tf.Tensor:
        turned = tf.transpose(picture, (1, 0, 2)) if exchange else picture
        axes = np.flatnonzero(reverse)
        return tf.reverse(turned, axes) if axes.size else turned

    return tf.switch_case(
        orientation - 1, [lambda turns=turns: turn(*turns) for turns in _TURNS]
    )


def upright_shape(shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The shape `(height, width, 3)` of a stored picture after turning it upright."""
    return tf.where(orientation > 4, tf.gather(shape, [1, 0, 2]), shape)


def stored_window(
    part: tf.Tensor, shape: tf.Tensor, orientation: tf.Tensor
) -> tf.Tensor:
    """Where a part `(top, left, height, width)` of the upright picture is stored."""
    turns = tf.gather(tf.constant(_TURNS), orientation - 1)
    corner, size = part[:2], part[2:]
    whole = upright_shape(shape, orientation)[:2]
    corner = tf.where(turns[1:], whole - corner - size, corner)
    stored = tf.stack([corner, size])
    stored = tf.where(turns[0], stored[:, ::-1], stored)
    return tf.reshape(stored, (4,))
