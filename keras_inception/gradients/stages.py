"""A model's trainable weights, grouped into stages that a person can name."""

import re

import keras

from keras_inception.architecture import ARCHITECTURES, stage_of
from keras_inception.outputs import MAIN, outputs_by_name


def weights_by_stage(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """The trainable weights of every stage, in network order.

    In a GoogLeNet the stages are the endpoints of its table, each head, and `main` (the
    classifier). In any other model layers are joined whose names share their beginning
    up to the first part with a number (`block2a_expand_conv` and `block2a_project_bn`
    are `block2a`); a layer with the name that Keras gave it stands alone, and a
    normalisation belongs to what it normalises.

    Args:
        model: A functional model.

    Example:
    >>> list(weights_by_stage(GoogLeNet((64, 64, 3), classes=3, auxiliary=())))[:2]
    ['conv1_7x7_s2', 'conv2_3x3_reduce']
    """
    heads = [name for name in outputs_by_name(model) if name != MAIN]
    tables = {stage for table in ARCHITECTURES.values() for stage in table.rows}
    known = [*heads, MAIN, *tables]
    stages: dict[str, list[keras.Variable]] = {}
    previous = None
    for layer in _layers_with_weights(model):
        stage = stage_of(layer.name, known)
        if stage is None:
            norm = type(layer).__name__.endswith("Normalization")
            joined = previous is not None and norm
            stage = previous if joined else _group(layer)
        if layer.trainable_weights:
            stages.setdefault(stage, []).extend(layer.trainable_weights)
        previous = stage
    in_heads = {head: stages.pop(head) for head in heads if head in stages}
    return stages | in_heads


def _layers_with_weights(model: keras.Model) -> list[keras.layers.Layer]:
    layers = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            layers += _layers_with_weights(layer)
        elif layer.weights:
            layers.append(layer)
    return layers


def _group(layer: keras.layers.Layer) -> str:
    parts = layer.name.split("_")
    default = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
    if re.fullmatch(rf"{default}(_\d+)?", re.sub(r"2_d", "2d", layer.name)):
        return layer.name
    if layer.name.replace("_", "").startswith(default.replace("_", "")):
        return layer.name
    for count, part in enumerate(parts, start=1):
        if any(character.isdigit() for character in part):
            return "_".join(parts[:count])
    return layer.name
