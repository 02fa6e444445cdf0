"""Builds a network from its table: the graph, with heads on its endpoints."""

import math
from collections.abc import Sequence

import keras

from keras_inception.architecture import Architecture
from keras_inception.outputs import MAIN, Output
from keras_inception.rows import build_row, normalize_pixels
from keras_inception.supervision import (
    AuxiliaryHead,
    DeeplySupervised,
    as_heads,
    supervise,
)

CLASSIFIER = f"{MAIN}_classifier"  # the dense layer before `main`


def build_network(
    architecture: Architecture,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    auxiliary: Sequence[str | AuxiliaryHead] = (),
    width: float = 1.0,
    batch_norm: bool = False,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
) -> DeeplySupervised:
    """Builds the network that a table describes, with random weights.

    Arguments, result and errors are those of `GoogLeNet`, which also loads weights;
    here the default is no head.
    """
    _check_arguments(input_shape, classes, architecture, width, classifier_activation)
    inputs = keras.Input(input_shape, name="images")
    x = normalize_pixels(inputs, architecture)
    endpoints = {}
    for stage, row in architecture.rows.items():
        x = build_row(x, row, stage, width=width, batch_norm=batch_norm)
        endpoints[stage] = x
    x = keras.layers.Dense(classes, name=CLASSIFIER)(x)
    main = Output(classifier_activation, name=MAIN)(x)
    return supervise(
        inputs,
        main,
        endpoints,
        as_heads("auxiliary", auxiliary, batch_norm=batch_norm),
        adaptive_pool=architecture.adaptive_head_pool,
        name=name or architecture.name,
    )


def _check_arguments(
    input_shape: tuple[int, int, int],
    classes: int,
    architecture: Architecture,
    width: float,
    classifier_activation: str | None,
) -> None:
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "GoogLeNet takes channels last, but Keras is set to channels_first. First "
            "call keras.config.set_image_data_format('channels_last')."
        )
    if len(input_shape) != 3 or input_shape[2] != 3:
        raise ValueError(
            "GoogLeNet takes RGB pictures: input_shape must be (height, width, 3). "
            f"Received: {input_shape}"
        )
    smallest = architecture.smallest_input
    if any(side is not None and side < smallest for side in input_shape[:2]):
        raise ValueError(
            f"Pictures of {input_shape[0]}x{input_shape[1]} pixels are too small for "
            f"{architecture.name}, which needs at least {smallest}x{smallest}. Enlarge "
            "them" + (", or use GOOGLENET_SMALL." if smallest > 16 else ".")
        )
    if classes < 2:
        raise ValueError(f"A classifier needs at least 2 classes. Received: {classes}")
    if not 0 < width < math.inf:
        raise ValueError(
            f"width must be a finite number greater than 0. Received: {width}"
        )
    if classifier_activation not in ("softmax", "linear", None):
        raise ValueError(
            "classifier_activation must be 'softmax' for probabilities or None for "
            f"logits. Received: {classifier_activation!r}"
        )
