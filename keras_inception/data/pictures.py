"""From a picture file to the pixels that a network takes.

One way for training, evaluation, prediction and the exported model, so that none of
them can differ from another: `decode` (or `read_file`), then `fit_square`.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")

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


def read_file(path: tf.Tensor, native: tf.Tensor) -> tf.Tensor:
    """A picture file as uint8 RGB `(height, width, 3)`.

    Args:
        path: The file's path, a string scalar.
        native: Whether TensorFlow decodes it, from `examine`; if not, Pillow does.
    """

    def by_pillow():
        picture = tf.numpy_function(_decode_with_pillow, [path], tf.uint8)
        picture.set_shape((None, None, 3))
        return picture

    return tf.cond(native, lambda: decode(tf.io.read_file(path)), by_pillow)


def _decode_with_pillow(path: bytes | np.ndarray) -> np.ndarray:
    path = np.asarray(path).item()  # outside of a graph it comes as an array
    with Image.open(os.fsdecode(path)) as picture:
        return np.asarray(picture.convert("RGB"))


def examine(path: Path) -> tuple[bool, tuple[int, int], str | None]:
    """Looks at a picture file's header without decoding it.

    Returns:
        `(native, (width, height), fault)`: whether TensorFlow decodes the file, its
        size in pixels, and what is wrong with it if it is no picture, else `None`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                native = picture.format in _NATIVE_FORMATS or (
                    picture.format == "BMP" and picture.mode == "RGB"
                )
                return native, picture.size, None
    except OSError as error:
        # An error number means that the file could not be read; without one Pillow
        # read it and knows no such format.
        fault = error.strerror if error.errno else "its contents are no picture"
        if not error.errno and path.stat().st_size == 0:
            fault = "it is empty"
        return False, (0, 0), fault
    except (Image.DecompressionBombError, SyntaxError, ValueError) as error:
        return False, (0, 0), str(error)


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
