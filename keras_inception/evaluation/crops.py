"""The crops of a picture whose predictions are averaged (section 7 of the paper)."""

from typing import NamedTuple

import keras
import numpy as np

CROP_COUNTS = (1, 10, 144)
_PAPER_SIZE = 224
_SHORT_SIDES = (256, 288, 320, 352)  # for crops of 224


class Crop(NamedTuple):
    """A square of a picture.

    Attributes:
        picture: Height and width that the picture is resized to first.
        top: First row of the square in the resized picture.
        left: First column.
        size: Side of the square there; if this is not the input size, the square is
            resized once more.
        mirrored: Whether left and right are exchanged.
    """

    picture: tuple[int, int]
    top: int
    left: int
    size: int
    mirrored: bool


def crop_geometry(
    height: int, width: int, crops: int, input_size: int = 224
) -> list[Crop]:
    """Computes where the crops of a picture lie.

    - 1: the largest centered square, resized: as in validation, prediction and export.
    - 10: the shorter side is resized to 256; of the centered square four corners
      and the center, and their mirror images (Krizhevsky et al. 2012, section 4.1).
    - 144: the shorter side is resized to 256, 288, 320 and 352; of the left, centered
      and right square (top, centered, bottom of a portrait) the four corners, the
      center and the whole square resized, and their mirror images: 4 x 3 x 6 x 2.

    These sizes are the paper's, for an input size of 224; other input sizes scale them.

    Raises:
        ValueError: If `crops` is another number.

    Example:
    >>> for crop in crop_geometry(480, 640, 10)[:3]:
    ...     print(crop)
    Crop(picture=(256, 341), top=0, left=42, size=224, mirrored=False)
    Crop(picture=(256, 341), top=0, left=42, size=224, mirrored=True)
    Crop(picture=(256, 341), top=0, left=74, size=224, mirrored=False)
    """
    if crops not in CROP_COUNTS:
        raise ValueError(f"crops must be one of 1, 10, 144. Received: {crops}")
    short = min(height, width)
    if crops == 1:
        corner = (height - short) // 2, (width - short) // 2
        return [Crop((height, width), *corner, short, mirrored=False)]
    found = []
    for paper_size in _SHORT_SIDES[:1] if crops == 10 else _SHORT_SIDES:
        size = round(paper_size * input_size / _PAPER_SIZE)
        resized = round(height * size / short), round(width * size / short)
        slack = max(resized) - size
        for offset in (slack // 2,) if crops == 10 else (0, slack // 2, slack):
            top, left = (0, offset) if width >= height else (offset, 0)
            far, middle = size - input_size, (size - input_size) // 2
            corners = (0, 0), (0, far), (far, 0), (far, far), (middle, middle)
            squares = [(top + y, left + x, input_size) for y, x in corners]
            if crops == 144:
                squares.append((top, left, size))
            found += [
                Crop(resized, *square, mirrored)
                for square in squares
                for mirrored in (False, True)
            ]
    return found


def take_crops(picture: np.ndarray, crops: int, input_size: int = 224) -> np.ndarray:
    """Cuts the crops out of a picture and resizes them to a model's input size.

    Args:
        picture: Pixels 0..255, `(height, width, 3)`, of any number type.
        crops: 1, 10 or 144.
        input_size: Input size in pixels. Defaults to 224.

    Returns:
        float32 `(crops, input_size, input_size, 3)`, 0..255, as `crop_geometry` orders.

    Raises:
        ValueError: If `crops` is another number, or `picture` is not RGB.
    """
    picture = np.asarray(picture, "float32")
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(
            f"A picture has the shape (height, width, 3). Received: {picture.shape}"
        )
    resized: dict[tuple[int, int], np.ndarray] = {}
    taken = np.empty((crops, input_size, input_size, 3), "float32")
    height, width, _ = picture.shape
    for number, crop in enumerate(crop_geometry(height, width, crops, input_size)):
        if crop.mirrored:  # directly follows its mirror image
            taken[number] = taken[number - 1, :, ::-1]
            continue
        if crop.picture not in resized:
            resized[crop.picture] = _resize(picture, crop.picture)
        square = resized[crop.picture][crop.top :, crop.left :][
            : crop.size, : crop.size
        ]
        taken[number] = _resize(square, (input_size, input_size))
    return taken


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes as `data.fit_square`, but without TensorFlow, on Keras's backend."""
    if picture.shape[:2] == size:
        return picture
    resized = keras.ops.image.resize(
        picture, size, "bilinear", antialias=True, data_format="channels_last"
    )
    return keras.ops.convert_to_numpy(resized)
