"""The classifiers of `keras.applications`, by name, on raw pixels 0..255."""

import difflib
import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_inception.defaults import SMALL
from keras_inception.graph import layer_of
from keras_inception.keras_behavior import (
    impatient_downloads,
    names_of_a_new_process,
)
from keras_inception.networks.adapted import with_classes

SMALL_SIZE = 64  # for small pictures: these networks halve the size five times
# Input sizes that the networks were trained at, where it is not 224 pixels.
_USUAL = {
    **{f"efficientnet_b{n}": size for n, size in enumerate((224, 240, 260, 300, 380))},
    **{f"efficientnet_b{n}": size for n, size in ((5, 456), (6, 528), (7, 600))},
    **{f"efficientnet_v2_b{n}": size for n, size in ((1, 240), (2, 260), (3, 300))},
    **{"efficientnet_v2_s": 384, "efficientnet_v2_m": 480, "efficientnet_v2_l": 480},
    **{"inception_v3": 299, "inception_resnet_v2": 299, "xception": 299},
    "nasnet_large": 331,
}
# The smallest that Keras accepts, where it is more than SMALL_SIZE.
_SMALLEST = {"inception_v3": 75, "inception_resnet_v2": 75, "xception": 71}


def application_names() -> list[str]:
    """Lists the networks: `"convnext_base"`, ..., `"xception"`."""
    return sorted(_functions())


def known_name(name: str) -> str:
    """Returns a network's name as `application_names` has it.

    Capitals, `_` and `-` do not matter: `"ResNet50V2"` is `"resnet50_v2"`.

    Raises:
        ValueError: If there is no such network; lists those with similar names.
    """
    names = {_key(known): known for known in application_names()}
    if (found := names.get(_key(name))) is not None:
        return found
    similar = difflib.get_close_matches(_key(name), names, n=5, cutoff=0.5)
    shown = [names[key] for key in similar] or application_names()
    kind = "Similar names" if similar else "There are"
    raise ValueError(
        f"There is no network {name!r} in keras.applications. {kind}: "
        f"{', '.join(shown)}. A model of your own is named by its file, MODEL.keras."
    )


def default_size(name: str | None, picture_size: int = SMALL) -> int:
    """Returns the input size in pixels for pictures of a size.

    It is the size that the network was trained at; for pictures below 112 pixels it is
    64, or the smallest that the network takes. `None` stands for any other network.
    """
    name = known_name(name) if name else ""
    if picture_size < SMALL:
        return _SMALLEST.get(name, SMALL_SIZE)
    return _USUAL.get(name, 224)


def application(
    name: str,
    input_size: int,
    classes: int,
    weights: str | None = None,
) -> keras.Model:
    """Builds a classifier of `keras.applications` that takes raw pixels 0..255.

    The preprocessing that the network was trained with is inside.

    Args:
        name: One of `application_names()`.
        input_size: Height and width of the pictures in pixels.
        classes: Number of classes.
        weights: `"imagenet"` for Keras's published weights, which are downloaded once
            into Keras's cache; the classifier is new unless there are 1000 classes.
            Defaults to `None`: random weights.

    Raises:
        ValueError: If there is no such network, it does not take this size, or
            `weights` is neither.
        OSError: If the weights can't be downloaded.

    Example:
    >>> application("mobilenet_v3_small", 64, classes=5).output.shape
    (None, 5)
    """
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Networks take channels last, but Keras is set to channels_first. First "
            "call keras.config.set_image_data_format('channels_last')."
        )
    if weights not in (None, "imagenet"):
        raise ValueError(f"weights must be 'imagenet' or None. Received: {weights!r}")
    name = known_name(name)
    build, shape = _functions()[name], (input_size, input_size, 3)
    if weights is None:
        return _built(build, name, shape, weights=None, classes=classes)
    try:
        with impatient_downloads():
            model = _built(build, name, shape, weights=weights)
    except ValueError:
        raise
    except Exception as error:  # Keras raises this type if a download fails
        raise OSError(
            f"The ImageNet weights of {name} can't be downloaded ({error}). On a "
            f"machine that is online, run keras.applications.{build.__name__}() once, "
            "and copy ~/.keras/models from there."
        ) from None
    return with_classes(model, classes)


def _built(
    build: Callable[..., keras.Model],
    name: str,
    shape: tuple[int, int, int],
    **arguments: Any,
) -> keras.Model:
    """Calls a function of `keras.applications` on preprocessed pixels."""
    pixels = keras.Input(shape, name="images")
    try:
        with warnings.catch_warnings(), names_of_a_new_process():
            # Keras warns if it loads weights for 224 pixels at another input size.
            warnings.simplefilter("ignore", UserWarning)
            model = build(
                input_tensor=_preprocessed(pixels, build),
                input_shape=shape,
                **arguments,
            )
    except ValueError as error:
        raise ValueError(
            f"{name} can't be built for pictures of {shape[0]}x{shape[1]} pixels: "
            f"{error}"
        ) from None
    # The model that Keras makes takes a list with one input.
    return keras.Model(pixels, model.output, name=model.name)


def _functions() -> dict[str, Callable[..., keras.Model]]:
    """The functions of `keras.applications` that build a network, by our names."""
    return {
        _snake_case(name): function
        for name, function in vars(keras.applications).items()
        if inspect.isfunction(function) and name[0].isupper()
    }


def _snake_case(name: str) -> str:
    """`"MobileNetV3Small"` as `"mobilenet_v3_small"`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return words.replace("_ne_xt", "next").replace("_net", "net")


def _key(name: str) -> str:
    return re.sub("[-_ ]", "", name).lower()


def _preprocessed(
    pixels: keras.KerasTensor, build: Callable[..., keras.Model]
) -> keras.KerasTensor:
    """Adds the layers that do what the network's `preprocess_input` does.

    That is a scale and an offset for each channel, after the order of the channels is
    reversed for the networks that were trained in Caffe. Both are measured on black,
    white and red pixels.
    """
    family = getattr(keras.applications, build.__module__.rpartition(".")[2])
    black = np.zeros((1, 1, 1, 3))
    offset = family.preprocess_input(black.copy())[0, 0, 0]
    white = family.preprocess_input(black + 255.0)[0, 0, 0]
    red = family.preprocess_input(black + np.array([255.0, 0, 0]))[0, 0, 0]
    if red[0] == offset[0]:
        pixels = keras.ops.flip(pixels, axis=-1)
        layer_of(pixels).name = "rgb_to_bgr"
    scale = (white - offset) / 255.0
    if not offset.any() and np.all(scale == 1):  # it is inside the network already
        return pixels
    return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name="pixels")(
        pixels
    )
