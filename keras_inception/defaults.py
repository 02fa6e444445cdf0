"""The network, input size and augmentation that suit pictures of a given size.

A picture's size is its shorter side in pixels; a dataset's is the median of them.
"""

import keras

from keras_inception.architecture import GOOGLENET, GOOGLENET_SMALL, Architecture

SMALL = 112  # pictures below this size get the small network


def default_architecture(picture_size: int) -> Architecture:
    """`GOOGLENET_SMALL` for pictures below 112 pixels, else `GOOGLENET`."""
    return GOOGLENET_SMALL if picture_size < SMALL else GOOGLENET


def default_input_size(architecture: Architecture, picture_size: int) -> int:
    """The side in pixels for a network: 224, or 32 or 64 for the small one."""
    if architecture.name != GOOGLENET_SMALL.name:
        return 224
    return 32 if picture_size <= 40 else 64


def default_augmentation(picture_size: int) -> str:
    """`"basic"` for pictures below 112 pixels, else `"paper"`.

    A crop of 8 % of a 32-pixel picture is 9 pixels wide: nothing to learn from.
    """
    return "basic" if picture_size < SMALL else "paper"


def input_size_of(model: keras.Model) -> int:
    """The side in pixels of the square pictures that a model takes.

    Raises:
        ValueError: If the model has another input than pictures of a fixed, square
            size.
    """
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(
            "Only models with one input of pictures (batch, height, width, 3) are "
            f"supported here. Received inputs of shapes {shapes}"
        )
    _, height, width, _ = shapes[0]
    if height is None or height != width:
        raise ValueError(
            f"The model takes pictures of {height}x{width} pixels; only square inputs "
            "of a fixed size are supported here."
        )
    return height
