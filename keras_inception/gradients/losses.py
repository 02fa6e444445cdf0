"""The loss of each output, as training computes it or would."""

from collections.abc import Callable

import keras

from keras_inception.graph import layer_of
from keras_inception.outputs import MAIN, Output, output_activation, outputs_by_name


def losses_by_output(model: keras.Model) -> dict[str, tuple[Callable, Callable]]:
    """Each output's loss function and what makes its labels, `main` first."""
    compiled = model.loss if model.compiled else None
    losses = {}
    for name, tensor in outputs_by_name(model).items():
        layer = layer_of(tensor)
        given = compiled.get(name) if isinstance(compiled, dict) else compiled
        from_logits = output_activation(tensor) == "linear"
        loss = _crossentropy(from_logits) if given is None else keras.losses.get(given)
        own_labels = layer.own_labels if isinstance(layer, Output) else _as_they_are
        losses[name] = (loss, own_labels)
    if MAIN in losses:
        losses = {MAIN: losses.pop(MAIN)} | losses
    return losses


def _as_they_are(labels):
    return labels


def _crossentropy(from_logits: bool) -> Callable:
    def crossentropy(labels, outputs):
        one_hot = len(labels.shape) == 2 and labels.shape[1] == outputs.shape[1] > 1
        name = "categorical" if one_hot else "sparse_categorical"
        loss = getattr(keras.losses, f"{name}_crossentropy")
        return loss(labels, outputs, from_logits=from_logits)

    return crossentropy
