"""From a picture file to the pixels that a network takes.

Training, evaluation, prediction, exported models and the server all decode with
`decode` and resize with `fit_square`, so that they see the same pixels.

A file is examined first (`examine`: header and end only), then decoded: the common
formats by TensorFlow inside a pipeline's graph, the others by Pillow, whose pixels
`as_decodable_bytes` hands to TensorFlow as PNG.
"""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from keras_inception.data.decoding import decode, fit_square
from keras_inception.data.headers import (
    CUT_SHORT,
    DAMAGED,
    Size,
    inflation_fault,
    read_header,
    upright,
)

# Files with these suffixes are expected to contain a picture.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".gif", ".webp"),
    *(".bmp", ".dib", ".tif", ".tiff", ".avif", ".jp2", ".j2k", ".jpx", ".jpf"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".tga", ".psd", ".heic", ".heif"),
    *(".jxl",),
)

# Decoded to float32 such a picture takes 1.2 GB, and a pipeline reads several at a
# time. A file of a few kilobytes can claim to be larger: a decompression bomb.
MAX_PIXELS = 100_000_000

# The formats that are left to Pillow: pictures that it decodes by itself.
_PILLOW_FORMATS = (
    *("TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "CUR", "ICNS", "PSD", "PCX", "SGI"),
    *("QOI", "DDS", "DIB", "TGA"),
)

# The bytes that end a complete file, and how far before its end they are looked for.
_END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 65536


class Examination(NamedTuple):
    """The result of `examine`; without a fault the file can probably be decoded."""

    native: bool  # decoded by TensorFlow; else by Pillow
    size: Size  # of the upright picture
    fault: str | None
    format: str | None  # by its contents; None if they are not a picture
    orientation: int = 1  # of the stored picture, as Exif counts; 1: upright


def examine(path: str | Path) -> Examination:
    """Checks a picture file's header and end without decoding it."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # opening a pipe would wait forever
            return Examination(False, (0, 0), "it is not a regular file", None)
        with path.open("rb") as file:
            result = _examine(file, status.st_size)
            if not result.fault and _is_cut_short(file, status.st_size, result.format):
                return result._replace(fault=CUT_SHORT)
            return result
    except OSError as error:
        return Examination(False, (0, 0), error.strerror or str(error), None)


def examine_bytes(contents: bytes) -> Examination:
    """Examines a file's contents: the header, and how far a PNG inflates."""
    result = _examine(io.BytesIO(contents), len(contents))
    if result.fault is None and (fault := inflation_fault(contents)):
        return result._replace(fault=fault)
    return result


def as_decodable_bytes(contents: bytes) -> bytes:
    """Returns a file's contents in a format that TensorFlow and exports decode.

    JPEG, PNG, GIF, BMP and WebP are returned as they are. All others that Pillow reads
    (TIFF, AVIF, JPEG 2000, ...) become a PNG of the same pixels, upright.

    Raises:
        ValueError: If the contents are not a picture or are damaged.
    """
    native, _, fault, *_ = examine_bytes(contents)
    if fault is None and native:
        return contents
    if fault is None:
        with contextlib.suppress(*_PILLOW_ERRORS):
            png = io.BytesIO()
            pixels = _decode_by_pillow(io.BytesIO(contents))
            Image.fromarray(pixels).save(png, "PNG", compress_level=1)
            return png.getvalue()
    raise ValueError(fault or DAMAGED)


def decode_with_pillow(path: tf.Tensor) -> tf.Tensor:
    """Reads a file of any format that Pillow supports as uint8 RGB, upright."""

    def decode_file(path: bytes | np.ndarray) -> np.ndarray:
        # in eager mode the path arrives as an array
        with open(os.fsdecode(np.asarray(path).item()), "rb") as file:
            return _decode_by_pillow(file)

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
    fault = examine(path).fault
    if fault is None:
        try:
            contents = as_decodable_bytes(Path(path).read_bytes())
            return fit_square(decode(tf.constant(contents)), side).numpy()
        except ValueError as error:
            fault = str(error)
        except tf.errors.OpError:
            fault = DAMAGED
    raise ValueError(f"{path} can't be read as a picture: {fault}")


def decoding_fault(path: str) -> str | None:
    """Decodes a whole file; returns the reason why that fails, or `None`."""
    fault = examine(path).fault
    if fault is None:
        try:
            load_picture(path, 1)
        except ValueError:
            return DAMAGED
    return fault


def _examine(file: BinaryIO, length: int) -> Examination:
    header = read_header(file, length)
    if header is None:
        return _examine_by_pillow(file, length)
    fault = header.fault or _too_large(header.size)
    return Examination(True, header.size, fault, header.format, header.orientation)


def _is_cut_short(file: BinaryIO, length: int, kind: str | None) -> bool:
    marker = _END_MARKERS.get(kind or "", b"")
    file.seek(max(0, length - _TAIL_BYTES))
    if marker in file.read():
        return False
    file.seek(0)
    try:  # a phone may have appended a video, which pushes the marker further away
        decode(tf.constant(file.read()))
    except tf.errors.OpError:
        return True
    return False


def _too_large(size: Size) -> str | None:
    if size[0] * size[1] <= MAX_PIXELS:
        return None
    return (
        f"its {size[0]}x{size[1]} pixels are more than the limit of {MAX_PIXELS:,} "
        "pixels"
    )


# A parser of hostile bytes can raise any type.
_PILLOW_ERRORS = (Exception,)


def _examine_by_pillow(file: BinaryIO, length: int) -> Examination:
    if not length:
        return Examination(False, (0, 0), "it is empty", None)
    try:
        with _open_by_pillow(file) as picture:
            size = picture.size
            if picture.format != "TIFF":  # whose size Pillow has turned already
                size = upright(size, _orientation(picture))
            fault = _too_large(size) or _mode_fault(picture)
            return Examination(False, size, fault, picture.format)
    except _PILLOW_ERRORS:
        return Examination(False, (0, 0), "its contents are not a picture", None)


def _orientation(picture: Image.Image) -> int:
    value: Any = picture.getexif().get(0x0112)
    return value if value in range(1, 9) else 1


@contextlib.contextmanager
def _open_by_pillow(file: BinaryIO) -> Iterator[Image.Image]:
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about large pictures and odd metadata
        with Image.open(file, formats=_PILLOW_FORMATS) as picture:
            yield picture


def _mode_fault(picture: Image.Image) -> str | None:
    """The fault of pixels whose values for black and white are unknown, or `None`."""
    known = picture.mode != "F" and (picture.mode != "I" or picture.format == "PPM")
    return None if known else "its pixels are numbers of more than 16 bits"


def _decode_by_pillow(file: BinaryIO) -> np.ndarray:
    """Decodes to uint8 RGB, upright, as TensorFlow decodes PNG: drops alpha."""
    with _open_by_pillow(file) as picture:
        if fault := _too_large(picture.size) or _mode_fault(picture):
            raise ValueError(fault)
        turned = ImageOps.exif_transpose(picture)
        if turned.mode.startswith("I"):
            turned = Image.fromarray((np.asarray(turned) >> 8).astype("uint8"))
        return np.asarray(turned.convert("RGB"))
