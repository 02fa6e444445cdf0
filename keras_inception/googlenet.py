"""GoogLeNet as a functional Keras model with three named softmax outputs."""

import os
from collections.abc import Sequence

import keras

from keras_inception.architecture import AUXILIARY_ENDPOINTS, GOOGLENET, Architecture
from keras_inception.layers import Output, build_row, normalize_pixels
from keras_inception.supervision import (
    MAIN,
    AuxiliaryHead,
    DeeplySupervised,
    as_head,
    supervise,
)


def GoogLeNet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    auxiliary: Sequence[str | AuxiliaryHead] = AUXILIARY_ENDPOINTS,
    architecture: Architecture = GOOGLENET,
    width: float = 1.0,
    batch_norm: bool = False,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    weights: str | os.PathLike | None = None,
) -> DeeplySupervised:
    """GoogLeNet (Inception v1) with its auxiliary classifiers.

    Szegedy et al., Going Deeper with Convolutions, arXiv 1409.4842, Table 1 and
    section 5. Every stage's output is the output of the layer that has the stage's
    name (`conv1_7x7_s2`, `inception_4a`); what deviates from the paper stands in
    `docs/fidelity.md`.

    Args:
        input_shape: `(height, width, 3)`. The pictures are raw RGB pixels 0..255:
            their normalisation is inside the model.
        classes: Number of classes, at least 2. Defaults to 1000.
        auxiliary: Where the heads hang: endpoints' names, or `AuxiliaryHead` objects
            for more say; `()` for none. Defaults to the paper's, Inception (4a) and
            (4d). A head given by name has batch normalisation if the network has it.
        architecture: `GOOGLENET` (default), `GOOGLENET_SMALL` for pictures of 32 to 64
            pixels, `GOOGLENET_TORCHVISION`, or a table of your own.
        width: Multiplies the number of filters of every convolution of the trunk.
            Defaults to 1.
        batch_norm: Whether batch normalisation follows every convolution (whose bias
            it replaces). Defaults to False, as in 2014.
        classifier_activation: `"softmax"` (default), or `None` for logits.
        name: Name of the model. Defaults to the architecture's.
        weights: A `.keras` file of a trained GoogLeNet, or `"imagenet"` for
            torchvision's published weights, downloaded once. The trunk is the file's,
            whatever its architecture; the classifier and the heads are too if the file
            has them for as many classes, else they are new. Prints which. Defaults to
            `None`: random weights.

    Returns:
        A `DeeplySupervised` model, not compiled; its outputs are the dict
        `{"main": (batch, classes), "aux_4a": ..., "aux_4d": ...}`.

    Raises:
        ValueError: If the pictures are too small for the architecture, a head names no
            endpoint, an argument is out of its range, or `weights` is no GoogLeNet.
        FileNotFoundError, OSError: If `weights` is not there or can't be downloaded.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3)
    >>> model.compile(optimizer="sgd")  # sparse labels, 0.3 for each head, accuracy
    >>> {name: output.shape for name, output in model.output.items()}
    {'main': (None, 3), 'aux_4a': (None, 3), 'aux_4d': (None, 3)}
    """
    _check_arguments(input_shape, classes, architecture, width, classifier_activation)
    if weights is not None:
        # here, since the weights' importers build networks themselves
        from keras_inception.weights.pretrained import googlenet_from

        return googlenet_from(
            weights,
            input_shape,
            classes,
            auxiliary,
            classifier_activation,
            name,
            architecture=architecture,
            width=width,
            batch_norm=batch_norm,
        )
    inputs = keras.Input(input_shape, name="images")
    x = normalize_pixels(inputs, architecture)
    endpoints = {}
    for stage, row in architecture.rows.items():
        x = build_row(x, row, stage, width=width, batch_norm=batch_norm)
        endpoints[stage] = x
    x = keras.layers.Dense(classes, name=f"{MAIN}_classifier")(x)
    main = Output(classifier_activation, name=MAIN)(x)
    return supervise(
        inputs,
        main,
        endpoints,
        [as_head(head, batch_norm=batch_norm) for head in auxiliary],
        adaptive_pool=architecture.adaptive_head_pool,
        name=name or architecture.name,
    )


def _check_arguments(input_shape, classes, architecture, width, classifier_activation):
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "GoogLeNet takes pictures as (height, width, 3), but Keras is set to "
            "channels_first. Call keras.config.set_image_data_format('channels_last') "
            "before building it."
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
            f"{architecture.name}, which needs at least {smallest}x{smallest}: give a "
            "larger input_shape and enlarge the pictures"
            + (", or use GOOGLENET_SMALL." if smallest > 16 else ".")
        )
    if classes < 2:
        raise ValueError(f"A classifier needs at least 2 classes. Received: {classes}")
    if not width > 0:
        raise ValueError(f"width must be greater than 0. Received: {width}")
    if classifier_activation not in ("softmax", "linear", None):
        raise ValueError(
            "classifier_activation must be 'softmax' for probabilities or None for "
            f"logits. Received: {classifier_activation!r}"
        )
