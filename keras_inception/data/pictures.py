"""From a picture file to the pixels that a network takes.

Training, evaluation, prediction and exported models all decode with `decode` and resize
with `fit_square`, so that they see the same pixels.

A file is examined first (`examine`: header and end only), then decoded: the common
formats by TensorFlow inside a pipeline's graph, the others by Pillow.
"""

import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".jfif", ".jpe")

# Decoded to float32 such a picture takes 1.2 GB, and a pipeline reads several at a
# time. A file of a few kilobytes can claim to be larger: a decompression bomb.
MAX_PIXELS = 100_000_000

DAMAGED = "its contents are damaged"

# The bytes that end a complete file, and how far before its end they are looked for.
_END_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 65536

# Formats that TensorFlow decodes in every color mode (gray, palette, RGBA, CMYK, 16
# bits); MPO is the JPEG of many phones. Of BMP it decodes only 24 bits.
_NATIVE_FORMATS = ("JPEG", "MPO", "PNG", "GIF")

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


def decode_with_pillow(path: tf.Tensor) -> tf.Tensor:
    """Reads a file of any format that Pillow supports as uint8 RGB."""

    def decode_file(path: bytes | np.ndarray) -> np.ndarray:
        # in eager mode the path arrives as an array
        with Image.open(os.fsdecode(np.asarray(path).item())) as opened:
            return np.asarray(opened.convert("RGB"))

    picture = tf.numpy_function(decode_file, [path], tf.uint8)
    picture.set_shape((None, None, 3))
    return picture


def load_picture(path: str | Path, side: int) -> np.ndarray:
    """Loads one picture file as a network takes it.

    Returns:
        float32 `(side, side, 3)`, 0..255.

    Raises:
        ValueError: If the file is not a picture or is damaged; the message names it.
        FileNotFoundError: If there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no picture file {path}")
    native, _, fault, _ = examine(path)
    if fault is None:
        try:
            contents = tf.io.read_file(str(path))
            picture = decode(contents) if native else decode_with_pillow(str(path))
            return fit_square(picture, side).numpy()
        except tf.errors.OpError:
            fault = DAMAGED
    raise ValueError(f"{path} can't be read as a picture: {fault}")


class Examination(NamedTuple):
    """The result of `examine`; without a fault the file can probably be decoded."""

    native: bool  # decoded by TensorFlow; else by Pillow
    size: tuple[int, int]  # width and height in pixels
    fault: str | None
    format: str | None = None


def examine(path: str | Path) -> Examination:
    """Checks a picture file's header and end without decoding it."""
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # opening a pipe would wait forever
            return Examination(False, (0, 0), "it is not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about bombs (see below), odd metadata
            with Image.open(path) as picture:
                native = picture.format in _NATIVE_FORMATS or (
                    picture.format == "BMP" and picture.mode == "RGB"
                )
                return Examination(
                    native, picture.size, _fault(path, picture), picture.format
                )
    except OSError as error:
        # Pillow's "unknown format" is an OSError without an error number.
        if error.errno:
            fault = error.strerror
        elif path.stat().st_size == 0:
            fault = "it is empty"
        else:
            fault = "its contents are not a picture"
    except (Image.DecompressionBombError, SyntaxError, ValueError) as error:
        fault = str(error)
    return Examination(False, (0, 0), fault)


def decoding_fault(path: str) -> str | None:
    """Decodes a whole file; returns the reason why that fails, or `None`."""
    fault = examine(path).fault
    if fault is None:
        try:
            load_picture(path, 1)
        except ValueError:
            return DAMAGED
    return fault


def _fault(path: Path, opened: Image.Image) -> str | None:
    """Detects too many pixels and a file cut short, the commonest damage."""
    width, height = opened.size
    if width * height > MAX_PIXELS:
        return f"its {width}x{height} pixels are more than the limit of {MAX_PIXELS:,}"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        if _END_MARKERS.get(opened.format or "", b"") in file.read():
            return None
    try:  # a phone may have appended a video, which pushes the marker further away
        decode(tf.io.read_file(str(path)))
    except tf.errors.OpError:
        return f"{DAMAGED}: the end is missing"
    return None
