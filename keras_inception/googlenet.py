"""GoogLeNet as a functional Keras model with three named softmax outputs."""

import functools
import os
from collections.abc import Sequence

from keras_inception.architecture import AUXILIARY_ENDPOINTS, GOOGLENET, Architecture
from keras_inception.network import build_network
from keras_inception.supervision import AuxiliaryHead, DeeplySupervised
from keras_inception.text import check_list


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
    class_names: Sequence[str] | None = None,
) -> DeeplySupervised:
    """GoogLeNet (Inception v1) with its auxiliary classifiers.

    Szegedy et al., Going Deeper with Convolutions, arXiv 1409.4842, Table 1 and
    section 5. The output of a stage is the output of the layer that has the stage's
    name (`conv1_7x7_s2`, `inception_4a`). Deviations from the paper are listed in
    `docs/fidelity.md`.

    Args:
        input_shape: `(height, width, 3)`. Pictures are raw RGB pixels 0..255; the
            model normalizes them itself.
        classes: Number of classes, at least 2. Defaults to 1000.
        auxiliary: The heads: names of endpoints, or `AuxiliaryHead` objects for other
            sizes, names or superclasses; `()` for none. Defaults to the paper's,
            Inception (4a) and (4d). A head given by name has batch normalization if
            the network has it.
        architecture: `GOOGLENET` (default), `GOOGLENET_SMALL` for inputs of 32 to 64
            pixels, `GOOGLENET_TORCHVISION`, or a table of your own.
        width: Factor on the filters of every convolution of the trunk. Defaults to 1.
        batch_norm: Whether batch normalization follows every convolution, whose bias
            it replaces. Defaults to False, as in 2014.
        classifier_activation: `"softmax"` (default), or `None` for logits.
        name: Name of the model. Defaults to the architecture's.
        weights: A `.keras` file of a trained GoogLeNet, or `"imagenet"` for
            torchvision's published weights, downloaded once. The trunk is the file's,
            whatever its architecture. The classifier and the heads are the file's if
            it has them for as many classes, and of these `class_names` where both have
            names; otherwise they are new. The logger `keras_inception` says which, at
            level INFO. Defaults to `None`: random weights.
        class_names: Names of the classes in label order, which the model then keeps.
            Defaults to those of the file in `weights` if its classifier is kept.

    Returns:
        A `DeeplySupervised` model, not compiled; its outputs are the dict
        `{"main": (batch, classes), "aux_4a": ..., "aux_4d": ...}`.

    Raises:
        ValueError: If the pictures are too small for the architecture, a head's
            endpoint does not exist, an argument is out of its range, or `weights` is
            not a GoogLeNet.
        FileNotFoundError, OSError: If `weights` does not exist or can't be downloaded.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3)
    >>> model.compile(optimizer="sgd")  # sparse labels, 0.3 for each head, accuracy
    >>> {name: output.shape for name, output in model.output.items()}
    {'main': (None, 3), 'aux_4a': (None, 3), 'aux_4d': (None, 3)}
    """
    check_list("class_names", class_names)
    if class_names is not None and len(class_names) != classes:
        raise ValueError(
            f"class_names must name each of the {classes} classes. Received: "
            f"{len(class_names)} names"
        )
    build = build_network
    if weights is not None:
        from keras_inception.weights.pretrained import load_pretrained

        build = functools.partial(load_pretrained, weights, class_names=class_names)
    model = build(
        architecture,
        input_shape=input_shape,
        classes=classes,
        auxiliary=auxiliary,
        width=width,
        batch_norm=batch_norm,
        classifier_activation=classifier_activation,
        name=name,
    )
    if class_names is not None:
        model.class_names = class_names
    return model
