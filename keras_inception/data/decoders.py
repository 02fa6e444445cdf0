"""GIF, BMP and WebP decoded in TensorFlow operations, where its own fail.

TensorFlow misplaces a GIF's frame that is smaller than its canvas, misreads or refuses
BMP files with palettes or 16 bits, and crashes on animated WebP files.
"""

from collections.abc import Callable, Collection

import numpy as np
import tensorflow as tf

from keras_inception.data.headers import MOST_STEPS

_RGB555 = np.array([0x7C00, 0x3E0, 0x1F])
_RGB888 = np.array([0xFF0000, 0xFF00, 0xFF])
_ZERO = np.int64(0)
_BYTES = [bytes([value]) for value in range(256)]


def decode_gif(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a GIF's first frame on its canvas.

    TensorFlow gets a file of this frame alone, without transparency and offset. The
    rest of the canvas has the transparent color, else the first one of the palette.
    """
    data = bytes_of(contents)

    def at(position: tf.Tensor) -> tf.Tensor:
        return tf.cast(data[position], tf.int32)

    def after_blocks(position: tf.Tensor) -> tf.Tensor:
        """The position after a sequence of blocks, which an empty one ends."""

        def leap(x: tf.Tensor) -> tuple[tf.Tensor]:
            """Skips up to 1,000 blocks of one size, as nearly all of most GIFs are."""
            size = at(x) + 1
            same = tf.cast(data[x : x + 1000 * size][::size] == data[x], tf.int32)
            count = tf.argmin(tf.pad(same, [[0, 1]]), output_type=tf.int32)
            return (x + count * size,)

        (end,) = tf.while_loop(
            lambda x: at(x) > 0, leap, (position,), maximum_iterations=MOST_STEPS
        )
        return checked(end, at(end) == 0, "a GIF of too many blocks") + 1

    def palette_size(packed: tf.Tensor) -> tf.Tensor:
        return tf.where(packed >= 128, 3 * 2 ** (1 + packed % 8), 0)

    def skip_extension(position: tf.Tensor, color: tf.Tensor) -> tuple:
        transparent = (at(position + 1) == 0xF9) & (at(position + 3) % 2 == 1)
        color = tf.where(transparent, at(position + 6), color)
        return after_blocks(position + 2), color

    shared = palette_size(at(10))
    frame, color = tf.while_loop(
        lambda x, _: at(x) == ord("!"),
        skip_extension,
        (13 + shared, tf.constant(0)),
        maximum_iterations=MOST_STEPS,
    )
    own = palette_size(at(frame + 9))
    size = tf.where(own > 0, own, shared)
    good = (at(frame) == ord(",")) & (size > 0)
    frame = checked(frame, good, "a GIF without a picture or without colors")
    end = after_blocks(frame + 11 + own)
    alone = [
        tf.strings.substr(contents, 0, 13 + shared),
        b",\0\0\0\0",
        tf.strings.substr(contents, frame + 5, end - frame - 5),
        b";",
    ]
    picture = tf.io.decode_image(
        tf.strings.join(alone), channels=3, expand_animations=False
    )
    palette = data[tf.where(own > 0, frame + 10, 13) :][:size]
    left, top = (number(contents, frame + shift, 2) for shift in (1, 3))
    width, height = (number(contents, shift, 2) for shift in (6, 8))
    background = tf.pad(palette, [[0, 768 - size]])[3 * color :][:3]
    return _on_canvas(picture, (top, left), (height, width), background)


def decode_bmp(contents: tf.Tensor) -> tf.Tensor:
    """Decodes an uncompressed BMP: of 1, 4, 8, 16, 24 or 32 bits, with any masks."""
    offset, header = number(contents, 10, 4), number(contents, 14, 4)
    old = header == 12  # OS/2's first kind, with shorter numbers and palette entries
    width = tf.where(old, number(contents, 18, 2), number(contents, 18, 4))
    height = tf.where(old, number(contents, 20, 2), number(contents, 22, 4))
    bits = tf.where(old, number(contents, 24, 2), number(contents, 28, 2))
    compression = tf.where(old, _ZERO, number(contents, 30, 4))
    top_down = height >= 2**31  # a negative number
    height = tf.where(top_down, 2**32 - height, height)
    masked = (compression == 3) | (compression == 6)
    plain = (compression == 0) & _is_in(bits, (1, 4, 8, 16, 24, 32))
    good = plain | (masked & _is_in(bits, (16, 32)) & (header != 64))
    good &= _is_in(header, (12, 40, 52, 56, 64, 108, 124))
    good &= (bits > 8) | (offset > 14 + header)
    offset = checked(offset, good, "a BMP that is compressed or of an unknown kind")
    row = (width * bits + 31) // 32 * 4
    rows = tf.reshape(bytes_of(contents)[offset : offset + row * height], (height, row))

    def with_palette() -> tf.Tensor:
        entry, start = tf.where(old, np.int64(3), np.int64(4)), 14 + header
        palette = bytes_of(contents)[start : tf.minimum(offset, start + 256 * entry)]
        palette = tf.pad(palette, [[0, 256 * entry - tf.size(palette, tf.int64)]])
        palette = tf.reshape(palette, (256, entry))[:, 2::-1]
        shifts = tf.cast(tf.range(8 - bits, -1, -bits), tf.uint8)
        indices = tf.bitwise.right_shift(rows[..., None], shifts)
        indices = tf.bitwise.bitwise_and(indices, tf.cast(2**bits - 1, tf.uint8))
        indices = tf.reshape(indices, (height, -1))[:, :width]
        return tf.gather(palette, tf.cast(indices, tf.int32))

    def of_bytes() -> tf.Tensor:
        pixels = rows[:, : width * bits // 8]
        pixels = tf.reshape(pixels, (height, width, bits // 8))
        return tf.reverse(pixels[..., :3], [2])

    def with_masks() -> tf.Tensor:
        pixels = tf.reshape(rows[:, : width * bits // 8], (height, width, bits // 8))
        values = tf.reduce_sum(
            tf.cast(pixels, tf.int64) * 256 ** tf.range(bits // 8), -1, keepdims=True
        )
        usual = tf.where(bits == 16, _RGB555, _RGB888)
        stored = tf.stack([number(contents, at, 4) for at in (54, 58, 62)])
        masks = tf.where(masked & tf.reduce_any(stored > 0), stored, usual)
        lowest = tf.bitwise.bitwise_and(masks, -masks)  # 0 for no mask is an error
        values = tf.bitwise.bitwise_and(values, masks) // lowest
        return tf.cast(values * 255 // (masks // lowest), tf.uint8)

    kind = tf.where(bits <= 8, 0, tf.where(masked | (bits == 16), 2, 1))
    picture = tf.switch_case(kind, [with_palette, of_bytes, with_masks])
    return tf.cond(top_down, lambda: picture, lambda: tf.reverse(picture, [0]))


def decode_webp(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a WebP's picture, or its first frame on the canvas, which is black.

    TensorFlow gets a file of this picture alone, without separate alpha.
    """
    start = find_chunk(contents, 12, (b"ANMF", b"VP8 ", b"VP8L"))
    framed = tf.strings.substr(contents, start, 4) == b"ANMF"
    # a frame's chunk begins with 16 bytes of its own, then contains others
    position = find_chunk(
        contents, start + tf.where(framed, np.int64(24), _ZERO), (b"VP8 ", b"VP8L")
    )
    size = number(contents, position + 4, 4)
    chunk = tf.strings.substr(contents, position, 8 + size + size % 2)
    length = (4 + tf.strings.length(chunk)) // 256 ** tf.range(4) % 256
    length = tf.strings.reduce_join(tf.gather(_BYTES, length))
    alone = tf.strings.join([b"RIFF", length, b"WEBP", chunk])
    # tf.io.decode_webp would keep an older TF Serving from loading the model.
    picture = tf.io.decode_image(alone, expand_animations=False)[..., :3]
    corner = [2 * number(contents, start + at, 3) for at in (11, 8)]
    corner = tf.where(framed, corner, _ZERO)
    extended = tf.strings.substr(contents, 12, 4) == b"VP8X"
    canvas = [1 + number(contents, at, 3) for at in (27, 24)]
    canvas = tf.where(extended, canvas, _ZERO)
    return _on_canvas(picture, corner, canvas, tf.zeros(3, tf.uint8))


def find_chunk(
    contents: tf.Tensor,
    start: tf.Tensor | int,
    names: Collection[bytes],
    *,
    png: bool = False,
) -> tf.Tensor:
    """The position of the next chunk of a PNG or WebP that has one of these names.

    Without any it is a position in the last 8 bytes, or beyond the end.
    """
    last = tf.cast(tf.strings.length(contents), tf.int64) - 8
    wanted = tf.constant([[*name] for name in names], tf.uint8)

    def is_other(position: tf.Tensor) -> tf.Tensor:
        name = tf.strings.substr(contents, position + (4 if png else 0), 4)
        same = tf.io.decode_raw(name, tf.uint8, fixed_length=4) == wanted
        return (position < last) & ~tf.reduce_any(tf.reduce_all(same, 1))

    def following(position: tf.Tensor) -> tuple[tf.Tensor]:
        at, rest = (position, 12) if png else (position + 4, 8)
        size = number(contents, at, 4, big_endian=png)
        size += 0 if png else size % 2
        return (tf.minimum(position + rest + size, last),)

    start = tf.cast(start, tf.int64)
    return tf.while_loop(is_other, following, (start,), maximum_iterations=MOST_STEPS)[
        0
    ]


def apart(*signature: tf.TensorSpec) -> Callable:
    """Makes a function one operation of the graphs that call it.

    TensorFlow visits every operation of a branch that is not taken: together, half a
    millisecond for each picture.
    """
    return tf.function(
        input_signature=signature,
        autograph=False,
        experimental_attributes={"_noinline": True},
    )


def number(
    contents: tf.Tensor, position: tf.Tensor, size: int, *, big_endian: bool = False
) -> tf.Tensor:
    """The whole number in `size` bytes, int64, as if zeros followed the end."""
    part = tf.strings.substr(contents, position, size)
    part = tf.io.decode_raw(part, tf.uint8, fixed_length=size)
    powers = 256 ** np.arange(size)
    powers = powers[::-1] if big_endian else powers
    return tf.reduce_sum(tf.cast(part, tf.int64) * powers)


def bytes_of(contents: tf.Tensor) -> tf.Tensor:
    """The bytes of a string as uint8 `(length,)`."""
    return tf.io.decode_raw(contents, tf.uint8)


def checked(value: tf.Tensor, good: tf.Tensor, fault: str) -> tf.Tensor:
    """Returns a value, or fails with a `tf.errors.InvalidArgumentError`."""
    # tf.debugging.Assert has state, which would make a pipeline sequential. The zero is
    # added because TensorFlow removes an operation that is only a control dependency.
    zero = tf.strings.to_number(tf.where(good, "0", f"not a picture but {fault}"))
    return value + tf.cast(zero, value.dtype)


def _is_in(value: tf.Tensor, known: Collection[int]) -> tf.Tensor:
    return tf.reduce_any(value == tf.constant([*known], tf.int64))


def _on_canvas(
    picture: tf.Tensor, corner: tf.Tensor, canvas: tf.Tensor, color: tf.Tensor
) -> tf.Tensor:
    """Puts a frame on a canvas of one color, which grows if the frame leaves it."""
    size = tf.shape(picture, tf.int64)[:2]
    corner, canvas = tf.convert_to_tensor(corner), tf.convert_to_tensor(canvas)
    after = tf.maximum(canvas - corner - size, 0)
    padding = tf.pad(tf.stack([corner, after], 1), [[0, 1], [0, 0]])
    inside = tf.pad(tf.ones_like(picture, tf.bool), padding)
    return tf.where(inside, tf.pad(picture, padding), color)
