"""A model's layers and weights, grouped into stages that a person can name."""

import keras

from keras_inception.architecture import stage_of, stages_in
from keras_inception.graph import steps_to
from keras_inception.outputs import MAIN, outputs_by_name

NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


def weights_by_stage(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """The trainable weights of every stage, in network order.

    In a GoogLeNet the stages are the endpoints of its table, each head, and `main` (the
    classifier). In any other model, layers whose names begin alike, up to the first
    part with a digit, are a stage (`block2a_expand_conv` and `block2a_project_bn` are
    in `block2a`); a layer with the name that Keras gave it is its own stage, and a
    normalization belongs to the layer before it.

    Example:
    >>> list(weights_by_stage(GoogLeNet((64, 64, 3), classes=3, auxiliary=())))[:2]
    ['conv1_7x7_s2', 'conv2_3x3_reduce']
    """
    return {
        stage: [weight for layer in layers for weight in layer.trainable_weights]
        for stage, layers in layers_by_stage(model).items()
        if any(layer.trainable_weights for layer in layers)
    }


def layers_by_stage(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """The layers with weights of every stage of `weights_by_stage`, heads last."""
    layers = _plain_layers(model)
    heads = [name for name in outputs_by_name(model) if name != MAIN]
    known = [*heads, MAIN, *stages_in(layer.name for layer in layers)]
    stages: dict[str, list[keras.layers.Layer]] = {}
    stage: str | None = None
    for layer in layers:
        if not layer.weights:
            continue
        if (known_stage := stage_of(layer.name, known)) is not None:
            stage = known_stage
        elif stage is None or not isinstance(layer, NORMALIZATIONS):
            stage = _stage_from_name(layer)
        stages.setdefault(stage, []).append(layer)
    in_heads = {head: stages.pop(head) for head in heads if head in stages}
    return stages | in_heads


def layers_of_trunk(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """The stages of `layers_by_stage` without the heads and the classifier."""
    outputs = outputs_by_name(model)
    steps = steps_to(outputs[MAIN])
    trained = [x.operation for x in steps if getattr(x.operation, "weights", None)]
    return {
        stage: layers
        for stage, layers in layers_by_stage(model).items()
        if stage not in outputs and trained[-1] not in layers
    }


def _plain_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """A model's layers, those of sub-models in place of the sub-models."""
    layers = []
    for layer in model.layers:
        layers += _plain_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return layers


def _stage_from_name(layer: keras.layers.Layer) -> str:
    # Keras names layers after their class: `dense_1`, `conv2d_transpose`.
    class_name = type(layer).__name__.replace("_", "").lower()
    if layer.name.replace("_", "").startswith(class_name):
        return layer.name
    parts = layer.name.split("_")
    for count, part in enumerate(parts, start=1):
        if any(character.isdigit() for character in part):
            return "_".join(parts[:count])
    return layer.name
