"""From a picture file to the pixels that a network takes.

One way for training, evaluation, prediction and the exported model, so that none of
them can differ from another: `decode` (or `read_file`), then `fit_square`.
"""

import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")

# Decoded and as float32 such a picture takes 1.2 GB, and several are read at a time. A
# file of a few kilobytes can claim to hold more: a decompression bomb.
MAX_PIXELS = 100_000_000

# What closes a file, and how many bytes before its end that is looked for.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 65536

# What TensorFlow decodes whatever the mode (grey, palette, RGBA, CMYK, 16 bits). MPO is
# the JPEG of many phones. Of BMP it knows 24 bits only; the rest is Pillow's.
_NATIVE_FORMATS = ("JPEG", "MPO", "PNG", "GIF")


def decode(contents: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG, GIF (first frame) or BMP bytes to uint8 RGB `(height, width, 3)`.

    Built of TensorFlow operations alone, so that it works inside an exported model.
    Alpha is dropped, grey repeated, 16 bits reduced to 8.
    """
    picture = tf.io.decode_image(contents, channels=3, expand_animations=False)
    picture.set_shape((None, None, 3))
    return picture


def fit_square(picture: tf.Tensor, side: int) -> tf.Tensor:
    """The largest centred square of a picture, resized to `side`.

    Args:
        picture: Pixels `(height, width, 3)`, uint8 or float, 0..255.
        side: Height and width of the result in pixels.

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


# From a picture's shape `(height, width, channels)` to the `(top, left, height, width)`
# of a part of it, both int32.
Window = Callable[[tf.Tensor], tf.Tensor]


def decode_window(contents: tf.Tensor, window: Window, side: int) -> tf.Tensor:
    """A part of a JPEG, PNG, GIF or BMP, for training; of a JPEG it alone is decoded.

    Where the part of a JPEG is at least twice, 4 or 8 times as large as what it will be
    resized to, it is decoded at that fraction of its size, which costs far less.

    Args:
        contents: The file's bytes.
        window: Chooses the part.
        side: Pixels that the part will be resized to.

    Returns:
        uint8 RGB `(height, width, 3)`.
    """

    def part_of_jpeg():
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
        part_of_jpeg,
        lambda: cut(decode(contents), window),
    )


def cut(picture: tf.Tensor, window: Window) -> tf.Tensor:
    """The part of a picture `(height, width, 3)` that a window chooses."""
    top, left, height, width = tf.unstack(window(tf.shape(picture)))
    return picture[top : top + height, left : left + width]


def read_file(path: tf.Tensor, native: tf.Tensor) -> tf.Tensor:
    """A picture file as uint8 RGB `(height, width, 3)`.

    Args:
        path: The file's path, a string scalar.
        native: Whether TensorFlow decodes it, from `examine`; if not, Pillow does.
    """
    return tf.cond(
        native,
        lambda: decode(tf.io.read_file(path)),
        lambda: decode_with_pillow(path),
    )


def decode_with_pillow(path: tf.Tensor) -> tf.Tensor:
    """A picture file of any kind that Pillow knows, uint8 RGB `(height, width, 3)`."""
    picture = tf.numpy_function(_decode_with_pillow, [path], tf.uint8)
    picture.set_shape((None, None, 3))
    return picture


def _decode_with_pillow(path: bytes | np.ndarray) -> np.ndarray:
    path = np.asarray(path).item()  # outside of a graph it comes as an array
    with Image.open(os.fsdecode(path)) as picture:
        return np.asarray(picture.convert("RGB"))


def examine(path: str | Path) -> tuple[bool, tuple[int, int], str | None]:
    """Looks at a picture file's header and end without decoding it.

    Returns:
        `(native, (width, height), fault)`: whether TensorFlow decodes the file, its
        size in pixels, and what is wrong with it if it is no picture, else `None`.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False, (0, 0), "it is no file"  # opening a pipe would wait for ever
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs (below) and of odd metadata
            with Image.open(path) as picture:
                native = picture.format in _NATIVE_FORMATS or (
                    picture.format == "BMP" and picture.mode == "RGB"
                )
                fault = _fault_of_size(*picture.size) or _fault_of_end(
                    path, picture.format
                )
                return native, picture.size, fault
    except OSError as error:
        # An error number means that the file could not be read; without one Pillow
        # read it and knows no such format.
        fault = error.strerror if error.errno else "its contents are no picture"
        if not error.errno and path.stat().st_size == 0:
            fault = "it is empty"
        return False, (0, 0), fault
    except (Image.DecompressionBombError, SyntaxError, ValueError) as error:
        return False, (0, 0), str(error)


def _fault_of_size(width: int, height: int) -> str | None:
    if width * height <= MAX_PIXELS:
        return None
    return f"its {width}x{height} pixels are more than the limit of {MAX_PIXELS:,}"


def _fault_of_end(path: Path, kind: str) -> str | None:
    """The commonest damage, a file that was cut short, costs no decoding to find."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        if _ENDS.get(kind, b"") in file.read():
            return None
    try:  # a phone may have appended a film
        decode(tf.io.read_file(str(path)))
    except tf.errors.OpError:
        return "its contents are damaged: the end is missing"
    return None


def load_picture(path: str | Path, side: int) -> np.ndarray:
    """One picture file as a network takes it: float32 `(side, side, 3)`, 0..255.

    Raises:
        ValueError: If the file is no picture or a damaged one, naming it.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no picture file {path}")
    native, _, fault = examine(path)
    if fault is None:
        try:
            picture = read_file(tf.constant(str(path)), tf.constant(native))
            return fit_square(picture, side).numpy()
        except tf.errors.OpError:
            fault = "its contents are damaged"
    raise ValueError(f"{path} can't be read as a picture: {fault}")
