"""What training does to pictures: nothing, a shift and a mirror, or the paper's all.

Everything is drawn from a key without any state, so that a picture's crop is a function
of the seed, the epoch and the picture alone: a run that is started again at epoch k
sees what it would have seen.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_inception.data.pictures import Window, fit_square
from keras_inception.data.splits import SHIFT

AUGMENTATIONS = ("none", "basic", "paper")

AREA = (0.08, 1.0)  # share of the picture, evenly drawn (section 6)
ASPECT = (3 / 4, 4 / 3)  # width to height (section 6)
CROP_ATTEMPTS = 10
# Factors of brightness, contrast and saturation, and the turn of the hue in circles.
# The paper refers to Howard (arXiv 1312.5402) and gives no figures: these are ours.
LIGHT = (0.6, 1.4)
HUE = 0.05

_METHODS = ("bilinear", "area", "nearest", "bicubic")  # drawn with equal chances
_LUMINANCE = np.array([0.299, 0.587, 0.114], "float32")
_YIQ = np.array(
    [_LUMINANCE, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]],
    "float32",
)
_FROM_YIQ = np.linalg.inv(_YIQ)


def augmented(
    augmentation: str,
    read: Callable[[], tf.Tensor],
    read_window: Callable[[Window, int], tf.Tensor],
    side: int,
    key: tf.Tensor,
    *,
    mirror: bool = True,
    shift: float = SHIFT,
) -> tf.Tensor:
    """A picture as one step of training sees it.

    Args:
        augmentation: `"none"`: the largest centred square; `"basic"`: that, shifted
            each way by up to `shift` of the side; `"paper"`: a crop of 8 to 100 % of
            the area and 3:4 to 4:3 wide, resized by one of four methods, in other light
            and hue.
        read: Gives the whole picture, uint8 `(height, width, 3)`.
        read_window: Gives the part that a `Window` chooses; see `decode_window`.
        side: Height and width of the result in pixels.
        key: Two integers that all random choices are functions of.
        mirror: Whether `basic` and `paper` show half of the pictures mirrored.
        shift: How far `basic` shifts. Defaults to an eighth of the side.

    Returns:
        float32 `(side, side, 3)`, 0..255.
    """
    if augmentation == "none":
        return fit_square(read(), side)
    draws = tf.random.stateless_uniform([8 + 2 * CROP_ATTEMPTS], key, alg="philox")
    flip, method, *light = tf.unstack(draws[:6])
    if augmentation == "basic":
        picture = _shifted(fit_square(read(), side), draws[6:8], int(side * shift))
    else:
        crops = tf.reshape(draws[8:], (CROP_ATTEMPTS, 2))
        position = draws[6:8]
        picture = read_window(lambda shape: crop_window(shape, crops, position), side)
        picture = _resized(picture, method, side)
        picture = jitter_colors(picture, *light)
    if mirror:  # a slice with a negative step would take seven times as long
        picture = tf.cond(flip < 0.5, lambda: tf.reverse(picture, [1]), lambda: picture)
    return picture


def crop_window(shape: tf.Tensor, crops: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """A crop of `AREA` of the picture and of an `ASPECT`, somewhere inside it.

    Args:
        shape: `(height, width, ...)` of the picture.
        crops: Evenly drawn numbers 0..1 `(attempts, 2)` for area and aspect; the first
            crop that fits into the picture is taken, else the largest that does.
        position: Two evenly drawn numbers 0..1, for where it lies.

    Returns:
        `(top, left, height, width)`, int32.
    """
    size = tf.cast(shape[:2], tf.float32)
    area = size[0] * size[1] * (AREA[0] + (AREA[1] - AREA[0]) * crops[:, 0])
    # a wide crop is as likely as a tall one: evenly drawn on a logarithmic scale
    low, high = np.log(ASPECT)
    aspect = tf.exp(low + (high - low) * crops[:, 1])
    wanted = tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=1)))
    fits = tf.reduce_all(wanted <= size, axis=1)
    ratio = size[1] / size[0]
    largest = tf.stack(
        [tf.minimum(1.0, ratio / ASPECT[0]), tf.minimum(1.0, ASPECT[1] / ratio)]
    )
    # argmax gives the first True
    first = tf.gather(wanted, tf.argmax(tf.cast(fits, tf.int32)))
    chosen = tf.where(tf.reduce_any(fits), first, tf.floor(size * largest))
    chosen = tf.clip_by_value(chosen, 1.0, size)
    corner = tf.floor(position * (size - chosen + 1.0))
    corner = tf.minimum(corner, size - chosen)  # position may be rounded up to 1
    return tf.cast(tf.concat([corner, chosen], axis=0), tf.int32)


def jitter_colors(
    picture: tf.Tensor,
    brightness: tf.Tensor,
    contrast: tf.Tensor,
    saturation: tf.Tensor,
    hue: tf.Tensor,
) -> tf.Tensor:
    """A picture in another light, from four evenly drawn numbers 0..1; 0.5 keeps it.

    All four are linear in the colours: contrast about the picture's mean luminance, and
    saturation and hue as a stretch and a turn of the plane of colours that luminance
    is not part of. So one matrix does them all, and their order makes no difference.
    """
    low, high = LIGHT
    brightness, contrast, saturation = (
        low + (high - low) * draw for draw in (brightness, contrast, saturation)
    )
    angle = 2 * np.pi * HUE * (2 * hue - 1)
    cos, sin = saturation * tf.cos(angle), saturation * tf.sin(angle)
    chroma = tf.stack([1.0, 0.0, 0.0, 0.0, cos, -sin, 0.0, sin, cos])
    matrix = _FROM_YIQ @ tf.reshape(chroma, (3, 3)) @ _YIQ
    mean = tf.reduce_sum(tf.reduce_mean(picture, axis=(0, 1)) * _LUMINANCE)
    colours = tf.reshape(picture, (-1, 3))
    changed = tf.matmul(colours, brightness * contrast * matrix, transpose_b=True)
    changed += brightness * (1 - contrast) * mean
    return tf.clip_by_value(tf.reshape(changed, tf.shape(picture)), 0.0, 255.0)


def _resized(picture: tf.Tensor, method: tf.Tensor, side: int) -> tf.Tensor:
    """A crop at its final size, by the method that a number 0..1 chooses."""
    shape = tf.shape(picture)
    # what is left to shrink by more than two: the other methods would skip pixels
    large = tf.minimum(shape[0], shape[1]) > 2 * side
    index = tf.minimum(tf.cast(method * len(_METHODS), tf.int32), len(_METHODS) - 1)
    index = tf.where(large, _METHODS.index("area"), index)
    batch = picture[None]
    branches = [
        lambda name=name: tf.cast(
            tf.image.resize(batch, (side, side), name), tf.float32
        )
        for name in _METHODS
    ]
    resized = tf.switch_case(index, branches)[0]
    return tf.ensure_shape(resized, (side, side, 3))


def _shifted(picture: tf.Tensor, draws: tf.Tensor, most: int) -> tf.Tensor:
    """A square shifted by up to `most` pixels; what comes in is its mirror image."""
    if not most:
        return picture
    padded = tf.pad(picture, [[most, most], [most, most], [0, 0]], "SYMMETRIC")
    corner = tf.minimum(tf.cast(draws * (2 * most + 1), tf.int32), 2 * most)
    part = tf.slice(padded, tf.concat([corner, [0]], 0), picture.shape)
    return tf.ensure_shape(part, picture.shape)
