"""Augmentation of training pictures: none, basic (shift, mirror) or the paper's.

All random numbers are drawn from a key, without state, so that a resumed run sees what
it would have seen.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_inception.data.decoding import Window, fit_square

AUGMENTATIONS = ("none", "basic", "paper")

SHIFT = 1 / 8  # of the side: 4 of 32 pixels, as is usual for small pictures
AREA = (0.08, 1.0)  # fraction of the picture, uniform (section 6)
ASPECT = (3 / 4, 4 / 3)  # width to height (section 6)
CROP_ATTEMPTS = 10
# Factors of brightness, contrast and saturation, and the largest hue rotation in full
# circles. The paper cites Howard (arXiv 1312.5402) without figures: these are ours.
LIGHT = (0.6, 1.4)
HUE = 0.05

_METHODS = ("bilinear", "area", "nearest", "bicubic")  # equally probable
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
    """Returns a picture as one training step sees it.

    Args:
        augmentation: `"none"`: the largest centered square; `"basic"`: that square,
            shifted in each direction by up to `shift` of the side; `"paper"`: a crop of
            8 to 100 % of the area with an aspect ratio of 3:4 to 4:3, resized by one of
            four methods, with jittered colors.
        read: Returns the whole picture, uint8 `(height, width, 3)`.
        read_window: Returns the part that a `Window` selects; see `decode_window`.
        side: Height and width of the result in pixels.
        key: Two integers that determine all random choices.
        mirror: Whether `basic` and `paper` mirror half of the pictures.
        shift: Largest shift of `basic`, as a fraction of the side. Defaults to 1/8.

    Returns:
        float32 `(side, side, 3)`, 0..255.
    """
    if augmentation == "none":
        return fit_square(read(), side)
    # Runs resume to the bit: a draw that is used must keep its position.
    draws = tf.random.stateless_uniform([8 + 2 * CROP_ATTEMPTS], key, alg="philox")
    flip, method, *colors = tf.unstack(draws[:6])
    position = draws[6:8]
    if augmentation == "basic":
        picture = _shifted(fit_square(read(), side), position, int(side * shift))
    elif augmentation == "paper":
        crops = tf.reshape(draws[8:], (CROP_ATTEMPTS, 2))
        picture = read_window(lambda shape: crop_window(shape, crops, position), side)
        picture = jitter_colors(_resized(picture, method, side), *colors)
    else:
        raise ValueError(
            f"augmentation must be one of {', '.join(AUGMENTATIONS)}. Received: "
            f"{augmentation!r}"
        )
    if mirror:  # a slice with a negative step would take seven times as long
        picture = tf.cond(flip < 0.5, lambda: tf.reverse(picture, [1]), lambda: picture)
    return picture


def crop_window(shape: tf.Tensor, crops: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Returns `(top, left, height, width)` of a crop with `AREA` and `ASPECT`.

    `crops` are uniform numbers 0..1 `(attempts, 2)` for area and aspect ratio: the
    first crop that fits into the picture is used, or else the largest possible one.
    Two more such numbers choose its position.
    """
    size = tf.cast(shape[:2], tf.float32)
    area = size[0] * size[1] * (AREA[0] + (AREA[1] - AREA[0]) * crops[:, 0])
    # uniform on a logarithmic scale, so that wide and tall crops are equally probable
    low, high = np.log(ASPECT)
    aspect = tf.exp(low + (high - low) * crops[:, 1])
    wanted = tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=1)))
    fits = tf.reduce_all(wanted <= size, axis=1)
    # argmax returns the first true entry
    first = tf.gather(wanted, tf.argmax(tf.cast(fits, tf.int32)))
    ratio = size[1] / size[0]
    largest = size * tf.minimum(1.0, tf.stack([ratio / ASPECT[0], ASPECT[1] / ratio]))
    chosen = tf.where(tf.reduce_any(fits), first, tf.floor(largest))
    chosen = tf.clip_by_value(chosen, 1.0, size)
    corner = tf.floor(position * (size - chosen + 1.0))
    corner = tf.minimum(corner, size - chosen)  # position may be rounded up to 1
    return tf.cast(tf.concat([corner, chosen], axis=0), tf.int32)


def jitter_colors(picture: tf.Tensor, *draws: tf.Tensor) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue by four numbers 0..1.

    They are mapped to `LIGHT` and `HUE`; 0.5 changes nothing. All four changes are
    linear in the colors: contrast scales about the picture's mean luminance, saturation
    and hue scale and rotate the plane of colors perpendicular to luminance. So one
    matrix makes all of them, and their order makes no difference.
    """
    *light, hue = draws
    low, high = LIGHT
    brightness, contrast, saturation = (low + (high - low) * draw for draw in light)
    angle = 2 * np.pi * HUE * (2 * hue - 1)
    cos, sin = saturation * tf.cos(angle), saturation * tf.sin(angle)
    chroma = tf.stack([1.0, 0.0, 0.0, 0.0, cos, -sin, 0.0, sin, cos])
    matrix = _FROM_YIQ @ tf.reshape(chroma, (3, 3)) @ _YIQ
    mean = tf.reduce_sum(tf.reduce_mean(picture, axis=(0, 1)) * _LUMINANCE)
    colors = tf.reshape(picture, (-1, 3))
    changed = tf.matmul(colors, brightness * contrast * matrix, transpose_b=True)
    changed += brightness * (1 - contrast) * mean
    return tf.clip_by_value(tf.reshape(changed, tf.shape(picture)), 0.0, 255.0)


def _resized(picture: tf.Tensor, method: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes a crop by the method that a number 0..1 selects."""
    shape = tf.shape(picture)
    # the other methods would skip pixels when shrinking by more than two
    large = tf.minimum(shape[0], shape[1]) > 2 * side
    index = tf.minimum(tf.cast(method * len(_METHODS), tf.int32), len(_METHODS) - 1)
    index = tf.where(large, _METHODS.index("area"), index)

    def resize(name: str) -> tf.Tensor:
        return tf.cast(tf.image.resize(picture, (side, side), name), tf.float32)

    resized = tf.switch_case(index, [lambda n=name: resize(n) for name in _METHODS])
    return tf.ensure_shape(resized, (side, side, 3))


def _shifted(picture: tf.Tensor, draws: tf.Tensor, most: int) -> tf.Tensor:
    """Shifts a square by up to `most` pixels; its mirror image fills the gap."""
    if not most:
        return picture
    padded = tf.pad(picture, [[most, most], [most, most], [0, 0]], "SYMMETRIC")
    corner = tf.minimum(tf.cast(draws * (2 * most + 1), tf.int32), 2 * most)
    return tf.slice(padded, tf.concat([corner, [0]], 0), picture.shape)
