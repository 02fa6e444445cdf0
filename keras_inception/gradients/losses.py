"""The loss of each output of a model, as training computes it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_inception.graph import compile_arguments, layer_of
from keras_inception.outputs import MAIN, Output, output_activation, outputs_by_name
from keras_inception.supervision import (
    AUXILIARY_WEIGHT,
    DeeplySupervised,
    Distillation,
)


class OutputLoss(NamedTuple):
    """The loss of one output."""

    function: Callable[[Any, Any], Any]  # from its labels and the output to losses
    own_labels: Callable[[Any], Any]  # from labels of the classes to its labels


def losses_by_output(model: keras.Model) -> dict[str, OutputLoss]:
    """Each output's loss, `main` first: the compiled one, otherwise crossentropy."""
    compiled = model.loss if model.compiled else None
    losses = {}
    for name, tensor in outputs_by_name(model).items():
        layer = layer_of(tensor)
        given = compiled.get(name) if isinstance(compiled, dict) else compiled
        logits = output_activation(tensor) == "linear"
        default = functools.partial(_crossentropy, from_logits=logits)
        function = default if given is None else keras.losses.get(given)
        own_labels = layer.own_labels if isinstance(layer, Output) else lambda y: y
        losses[name] = OutputLoss(function, own_labels)
    return {MAIN: losses[MAIN]} | losses if MAIN in losses else losses


def distillation_of(model: keras.Model) -> Distillation | None:
    """The distillation that the heads train with, or `None`."""
    if not isinstance(model, DeeplySupervised) or not model.compiled:
        return None
    return model.distillation if model.distillation.weight else None


def loss_weights_by_output(model: keras.Model) -> dict[str, float]:
    """The weight of each output in the total loss at present, `main` first.

    A model that is not compiled gets the defaults: 1 for `main`, 0.3 for each head.
    """
    names = sorted(outputs_by_name(model), key=lambda name: name != MAIN)
    if not model.compiled:
        return {name: 1.0 if name == MAIN else AUXILIARY_WEIGHT for name in names}
    weights: dict[str, Any] = dict.fromkeys(names, 1.0)  # Keras's default
    given = compile_arguments(model).get("loss_weights")
    if isinstance(given, (list, tuple)):  # Keras sorts the outputs by name
        given = dict(zip(sorted(names), given, strict=True))
    if isinstance(given, Mapping):
        weights |= given
    if isinstance(model, DeeplySupervised):
        weights |= model.auxiliary_weights
    return {n: float(ops.convert_to_numpy(weight)) for n, weight in weights.items()}


def _crossentropy(labels: Any, outputs: Any, from_logits: bool) -> Any:
    one_hot = len(labels.shape) == 2 and labels.shape[1] == outputs.shape[1] > 1
    name = "categorical" if one_hot else "sparse_categorical"
    loss = getattr(keras.losses, f"{name}_crossentropy")
    return loss(labels, outputs, from_logits=from_logits)
