"""The network that a training or a search starts from, by name or from a file."""

import logging
import os
import zipfile
from collections.abc import Callable, Sequence

import keras

from keras_inception.networks.adapted import adapted
from keras_inception.networks.applications import application, default_size

_logger = logging.getLogger(__name__)


def plain_network(
    network: str,
    class_names: Sequence[str],
    picture_size: int,
    input_size: int | None = None,
    weights: str | None = None,
) -> tuple[keras.Model, keras.Model | None]:
    """Builds a network without heads for classes and pictures.

    Args:
        network: One of `application_names()`, or a `.keras` file of a classifier.
        class_names: Names of the classes in label order.
        picture_size: Size of the pictures in pixels, which chooses the input size.
        input_size: Input size in pixels. Defaults to the file's, or one that suits the
            pictures.
        weights: As in `application`; not for a file. Defaults to `None`: random.

    Returns:
        The network, and the model in the file; `None` if it is not from a file.

    Raises:
        FileNotFoundError, ValueError, OSError: As in `application`, `load_model` and
            `adapted`.
    """
    if not network.endswith(".keras"):
        size = input_size or default_size(network, picture_size)
        return application(network, size, len(class_names), weights), None
    model = load_model(network, compiled=False)
    if input_size is None and None in model.inputs[0].shape[1:3]:
        input_size = default_size(None, picture_size)
    try:
        return adapted(model, len(class_names), input_size, class_names), model
    except ValueError as error:
        raise ValueError(f"{network} is not a network to train: {error}") from None


def published_weights(
    network: str, log: Callable[[str], object] = _logger.info
) -> str | None:
    """Returns `"imagenet"` if a network's published weights are available, else `None`.

    Args:
        network: As in `plain_network`; a file has weights of its own.
        log: Called with a line that says why they are not available.
    """
    if network.endswith(".keras"):
        return None
    try:
        application(network, default_size(network), 1000, "imagenet")
    except OSError as error:
        log(f"{error} {network} starts from random weights.")
        return None
    return "imagenet"


def load_model(path: str, *, compiled: bool = True) -> keras.Model:
    """Loads a `.keras` file, compiled as it was when saved, or not compiled.

    Raises:
        FileNotFoundError, ValueError: If there is no such file, or it is not a model,
            or damaged.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no model {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a .keras model file, as model.save() and keras-inception "
            "train write."
        )
    try:
        return keras.saving.load_model(path, compile=compiled)
    except Exception as error:  # Keras, h5py and zipfile raise their own types
        raise ValueError(
            f"{path} can't be loaded ({type(error).__name__}): {str(error)[:400]}"
        ) from error
