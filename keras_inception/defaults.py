"""The network, input size and augmentation that suit pictures of a given size.

The size of a picture is its shorter side in pixels, and the size of a dataset's
pictures is the median of those.
"""

import keras

from keras_inception.architecture import GOOGLENET, GOOGLENET_SMALL, Architecture

SMALL = 112  # pictures below this size get the small network


def default_architecture(picture_size: int) -> Architecture:
    """Returns `GOOGLENET_SMALL` for pictures below 112 pixels, else `GOOGLENET`."""
    return GOOGLENET_SMALL if picture_size < SMALL else GOOGLENET


def default_input_size(architecture: Architecture, picture_size: int) -> int:
    """Returns the input size in pixels: 224, or 32 or 64 for the small network."""
    if architecture.name != GOOGLENET_SMALL.name:
        return 224
    return 32 if picture_size <= 40 else 64


def default_augmentation(picture_size: int) -> str:
    """Returns `"basic"` for pictures below 112 pixels, else `"paper"`.

    The paper's crops can be 8 % of the area, which is 9 pixels square in a picture of
    32 pixels: too small to show anything.
    """
    return "basic" if picture_size < SMALL else "paper"


def input_size_of(model: keras.Model) -> int:
    """Returns the input size in pixels of a model that takes square pictures."""
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    match shapes:
        case [(_, int(height), width, 3)] if height == width:
            return height
    raise ValueError(
        "Only models with one input of square pictures of a fixed size, (batch, size, "
        f"size, 3), are supported here. Received inputs of the shapes {shapes}"
    )
