"""A frozen trunk's features, computed once: training needs only the rest of the model.

Nothing before the first trainable weights changes from epoch to epoch, so a picture's
features there can be kept. An epoch on kept features skips the trunk.
"""

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import keras
from keras import ops

from keras_inception.graph import (
    Step,
    all_layers,
    mask_of,
    random_states,
    step_of,
    steps_to,
)
from keras_inception.supervision.features import Features, compute_features
from keras_inception.supervision.model import DeeplySupervised

Tensors = dict[int, keras.KerasTensor]  # by identity, in network order


class FrozenSplit(NamedTuple):
    """A model in two parts over its own layers: `rest(trunk(x))` is `model(x)`.

    Attributes:
        trunk: From the model's inputs to the list of features.
        rest: From that list to the model's outputs, with all its trainable weights, in
            the model's order; not compiled. A `DeeplySupervised` if the model is one.
    """

    trunk: keras.Model
    rest: keras.Model

    @property
    def bytes_per_example(self) -> int:
        """The size of one example's features.

        Raises:
            ValueError: If it depends on an input size that the model leaves open.
        """
        sizes = [_bytes_of(tensor) for tensor in self.trunk.outputs]
        if not all(map(math.isfinite, sizes)):
            raise ValueError(
                "The size of the features depends on the input size, which this model "
                f"leaves open: {self.trunk.input_shape}"
            )
        return int(sum(sizes))

    def features(self, dataset: Iterable) -> Features:
        """Computes the features of a dataset; see `compute_features`."""
        return compute_features(self.trunk, dataset)


def split_frozen(model: keras.Model, *, at_inference: bool = False) -> FrozenSplit:
    """Splits a model where its frozen part ends.

    The trunk is all that depends on no trainable weight, no random operation (dropout,
    augmentation) and no batch statistics; a frozen batch normalization uses its stored
    ones. Layers without weights are on the side that makes the features smaller. The
    layers that make the outputs belong to the rest.

    The parts share the layers of `model`: training `rest` trains it. Freeze first;
    freezing or unfreezing layers later needs another split.

    Args:
        model: A functional model with frozen layers (`layer.trainable = False`), see
            `ki.optimizers.freeze_through`.
        at_inference: Whether layers that are frozen also behave in training as at
            inference: a frozen `Dropout` drops nothing. Keras itself does so for batch
            normalization alone. Defaults to False.

    Raises:
        ValueError: If the model is not functional, or nothing that has weights is
            frozen from the inputs on.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, width=0.25)
    >>> frozen = optimizers.freeze_through(model, "inception_5b")
    >>> trunk, rest = split = split_frozen(model)
    >>> [tuple(tensor.shape) for tensor in trunk.outputs]
    [(None, 1, 1, 128), (None, 1, 1, 132), (None, 256)]
    >>> images, labels = np.zeros((8, 64, 64, 3)), np.arange(8) % 3
    >>> features = split.features([(images, labels)])
    >>> rest.compile("sgd")
    >>> history = rest.fit(features.arrays, features.labels, epochs=5, verbose=0)
    """
    if not getattr(model, "outputs", None):
        raise ValueError(
            "split_frozen needs a functional model, built from keras.Input. Received: "
            f"{model!r} of type {type(model).__name__}"
        )
    steps = steps_to(*model.outputs)
    fixed = _fixed_steps(steps, model.outputs, at_inference)
    if not any(_has_weights(step) for step in steps if id(step) in fixed):
        raise ValueError(
            f"No layer with weights is frozen from the inputs of {model.name!r} on: "
            "set trainable = False for them, as ki.optimizers.freeze_through does."
        )
    frontier = list(_smallest(_frontier(steps, fixed)).values())
    kind = DeeplySupervised if isinstance(model, DeeplySupervised) else keras.Model
    rest = kind(frontier, model.output, name=model.name)
    if isinstance(model, DeeplySupervised):
        rest.class_names = model.class_names
    return FrozenSplit(keras.Model(model.inputs, frontier, name="trunk"), rest)


def _fixed_steps(
    steps: Sequence[Step], outputs: Sequence[keras.KerasTensor], at_inference: bool
) -> set[int]:
    """The identities of the steps whose results are the same in every epoch."""
    output_ids, fixed = set(map(id, outputs)), set[int]()
    for step in steps:
        made = step.output_tensors
        if step.is_input or (
            all(id(step_of(tensor)) in fixed for tensor in step.input_tensors)
            and not any(id(tensor) in output_ids for tensor in made)
            # a mask beside a tensor would be lost; one that is a tensor is not
            and not any(mask_of(tensor) is not None for tensor in made)
            and _never_changes(step.operation, at_inference)
        ):
            fixed.add(id(step))
    return fixed


def _never_changes(operation: keras.Operation, at_inference: bool) -> bool:
    """Whether a layer maps the same inputs to the same outputs throughout training."""
    if not isinstance(operation, keras.layers.Layer):
        return True  # an operation of `keras.ops`
    if operation.trainable_weights:
        return False
    return not any(
        _differs_in_training(layer, at_inference)
        for layer in (operation, *all_layers(operation))
    )


def _differs_in_training(layer: keras.layers.Layer, at_inference: bool) -> bool:
    may_differ = _takes_training(layer) and getattr(layer, "rate", None) != 0
    if isinstance(layer, keras.layers.BatchNormalization) or at_inference:
        return may_differ and layer.trainable
    return may_differ or bool(random_states(layer))


def _takes_training(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
        return False  # a functional model, which only passes it on
    if isinstance(layer, _PASSING_ON_TRAINING):
        return False
    return "training" in inspect.signature(type(layer).call).parameters


# Layers that give the argument `training` to quantization or to inner layers alone.
_PASSING_ON_TRAINING = (
    keras.layers.Bidirectional,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.MultiHeadAttention,
    keras.layers.RNN,
    keras.layers.TimeDistributed,
)


def _has_weights(step: Step) -> bool:
    operation = step.operation
    return isinstance(operation, keras.layers.Layer) and bool(operation.weights)


def _frontier(steps: Sequence[Step], fixed: set[int]) -> Tensors:
    """The tensors that fixed steps make and others read."""
    return {
        id(tensor): tensor
        for step in steps
        if id(step) not in fixed
        for tensor in step.input_tensors
        if id(step_of(tensor)) in fixed
    }


def _smallest(frontier: Tensors) -> Tensors:
    """Replaces features by the tensors they are computed from where those are smaller.

    A module's branches read its input and, for the fourth, a pool of it, which is as
    large: only the input is kept. Steps with weights are never moved.
    """
    for key, tensor in frontier.items():
        step = step_of(tensor)
        if step.is_input or _has_weights(step):
            continue
        others = {k: t for k, t in frontier.items() if k != key}
        sources = {id(t): t for t in step.input_tensors if id(t) not in others}
        if sum(map(_bytes_of, sources.values())) < _bytes_of(tensor):
            return _smallest(others | sources)
    return frontier


def _bytes_of(tensor: keras.KerasTensor) -> float:
    """The size of one example's part of a tensor; infinite if it is not known."""
    if None in tensor.shape[1:]:
        return math.inf
    # TensorFlow can't convert a bfloat16 tensor without dimensions to an array.
    number = ops.convert_to_numpy(ops.zeros(1, tensor.dtype))
    return math.prod(tensor.shape[1:]) * number.itemsize
