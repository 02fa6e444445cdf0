"""The crops of a picture that a network is asked about (section 7 of the paper)."""

from typing import NamedTuple

import keras
import numpy as np

CROP_COUNTS = (1, 10, 144)
_PAPER_SIDE = 224
_SHORT_SIDES = (256, 288, 320, 352)  # for crops of 224


class Crop(NamedTuple):
    """A square of a picture.

    Attributes:
        picture: Height and width that the picture is resized to first.
        top: Where the square begins in the resized picture.
        left: The same.
        size: Its side in the resized picture; another than the network's is resized.
        mirrored: Whether left and right change places.
    """

    picture: tuple[int, int]
    top: int
    left: int
    size: int
    mirrored: bool


def crop_geometry(height: int, width: int, crops: int, side: int = 224) -> list[Crop]:
    """Where the crops of a picture lie.

    - 1: the largest centred square, resized: as in validation, prediction and export.
    - 10: the shorter side is resized to 256; of the centred square four corners
      and the centre, and their mirror images (Krizhevsky et al. 2012, section 4.1).
    - 144: the shorter side is resized to 256, 288, 320 and 352; of the left, centred
      and right square (top, centred, bottom of a portrait) the four corners, the centre
      and the whole square resized, and their mirror images: 4 x 3 x 6 x 2.

    The sizes are those of the paper for crops of 224 pixels, and in proportion for
    other networks.

    Args:
        height: Of the picture in pixels.
        width: The same.
        crops: 1, 10 or 144.
        side: Of the pictures that the network takes, in pixels. Defaults to 224.

    Raises:
        ValueError: If `crops` is none of these numbers.

    Example:
    >>> for crop in crop_geometry(480, 640, 10)[:3]:
    ...     print(crop)
    Crop(picture=(256, 341), top=0, left=42, size=224, mirrored=False)
    Crop(picture=(256, 341), top=0, left=42, size=224, mirrored=True)
    Crop(picture=(256, 341), top=0, left=74, size=224, mirrored=False)
    """
    if crops not in CROP_COUNTS:
        listed = ", ".join(map(str, CROP_COUNTS))
        raise ValueError(f"crops must be one of {listed}. Received: {crops}")
    short = min(height, width)
    if crops == 1:
        corner = (height - short) // 2, (width - short) // 2
        return [Crop((height, width), *corner, short, mirrored=False)]
    found = []
    for paper_size in _SHORT_SIDES[:1] if crops == 10 else _SHORT_SIDES:
        size = round(paper_size * side / _PAPER_SIDE)
        resized = (
            max(size, round(height * size / short)),
            max(size, round(width * size / short)),
        )
        slack = max(resized) - size
        for offset in (slack // 2,) if crops == 10 else (0, slack // 2, slack):
            top, left = (0, offset) if width >= height else (offset, 0)
            far, middle = size - side, (size - side) // 2
            squares = [
                (top, left, side),
                (top, left + far, side),
                (top + far, left, side),
                (top + far, left + far, side),
                (top + middle, left + middle, side),
            ]
            if crops == 144:
                squares.append((top, left, size))
            found += [
                Crop(resized, *square, mirrored)
                for square in squares
                for mirrored in (False, True)
            ]
    return found


def take_crops(picture: np.ndarray, crops: int, side: int = 224) -> np.ndarray:
    """The crops of a picture as a network takes them.

    Args:
        picture: Pixels 0..255, `(height, width, 3)`, of any number type.
        crops: 1, 10 or 144.
        side: Of the pictures that the network takes, in pixels. Defaults to 224.

    Returns:
        float32 `(crops, side, side, 3)`, 0..255, in the order of `crop_geometry`.

    Raises:
        ValueError: If `crops` is none of these numbers, or `picture` is no RGB picture.
    """
    picture = np.asarray(picture, "float32")
    if picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(
            f"A picture has the shape (height, width, 3). Received: {picture.shape}"
        )
    resized, squares = {}, {}
    taken = np.empty((crops, side, side, 3), "float32")
    geometry = crop_geometry(*picture.shape[:2], crops, side)
    for crop, place in zip(geometry, taken, strict=True):
        if crop.picture not in resized:
            resized[crop.picture] = _resize(picture, crop.picture)
        if crop[:4] not in squares:  # its mirror image needs it once more
            rows = slice(crop.top, crop.top + crop.size)
            columns = slice(crop.left, crop.left + crop.size)
            square = resized[crop.picture][rows, columns]
            squares = {crop[:4]: _resize(square, (side, side))}
        square = squares[crop[:4]]
        place[:] = square[:, ::-1] if crop.mirrored else square
    return taken


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[:2] == size:
        return picture
    resized = keras.ops.image.resize(
        picture,
        size,
        interpolation="bilinear",
        antialias=True,
        data_format="channels_last",
    )
    return keras.ops.convert_to_numpy(resized)
