"""The network as runtimes like it: the same answers from fewer and larger steps.

A model that people read has a layer for each row of its table. What is exported can be
another one, derived here: batch normalisation becomes part of the convolution before
it, and the 1x1 convolutions of a module that read the same tensor become one.
"""

from collections import Counter
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_inception.graph import steps_to
from keras_inception.layers import LocalResponseNormalization

Conv2D = keras.layers.Conv2D


def folded(model: keras.Model) -> keras.Model:
    """A new model with the same inputs, outputs and answers, made for inference.

    The weights are copies; the model itself is left as it is. Layers that neither rule
    concerns are copied as they are.

    Args:
        model: A functional model.

    Example:
    >>> import keras_inception as ki
    >>> main = ki.detach_auxiliary(ki.GoogLeNet((64, 64, 3), 3, width=0.125))
    >>> sum(isinstance(layer, Conv2D) for layer in main.layers)
    57
    >>> sum(isinstance(layer, Conv2D) for layer in folded(main).layers)
    39
    """
    return _with_joined_convolutions(_without_batch_norm(model))


def for_runtimes(model: keras.Model) -> keras.Model:
    """`folded`, with response normalisation as the one operation that runtimes have."""

    def call(layer, inputs):
        if type(layer) is LocalResponseNormalization:
            return _OneOperation.from_config(layer.get_config())(inputs)
        return None

    return _rebuilt(folded(model), call)


class _OneOperation(LocalResponseNormalization):
    """Slower in TensorFlow itself, whose kernel is plain; converters know it."""

    def call(self, inputs):
        return tf.nn.local_response_normalization(
            inputs, self.size // 2, self.bias, self.alpha / self.size, self.beta
        )


def _without_batch_norm(model: keras.Model) -> keras.Model:
    """Convolution, normalisation and ReLU in one layer, if nothing else reads them."""
    next_of = _only_readers(model)
    folds, absorbed = {}, set()  # by the ids of layers
    for step in steps_to(*_outputs(model)):
        layer = step.operation
        norm = next_of.get(id(layer))
        if _is_convolution(layer) and _is_linear(layer) and _normalizes_channels(norm):
            relu = next_of.get(id(norm))
            relu = relu if _is_plain_relu(relu) else None
            folds[id(layer)] = (norm, relu)
            absorbed.update((id(norm), id(relu)))

    def call(layer, inputs):
        if id(layer) in absorbed:
            return inputs
        if id(layer) not in folds:
            return None
        norm, relu = folds[id(layer)]
        weights = _normalized(layer, norm)
        return _convolve(inputs, layer, weights, activation=relu and "relu")

    return _rebuilt(model, call)


def _with_joined_convolutions(model: keras.Model) -> keras.Model:
    """One convolution for all 1x1 ones of the same kind that read the same tensor."""
    steps = steps_to(*_outputs(model))
    calls = Counter(id(step.operation) for step in steps)
    groups = {}
    for step in steps:
        layer = step.operation
        if _is_pointwise(layer) and calls[id(layer)] == 1:
            kind = (id(step.input_tensors[0]), layer.activation, layer.use_bias)
            groups.setdefault(kind, []).append(layer)
    groups = [group for group in groups.values() if len(group) > 1]
    group_of = {id(layer): group for group in groups for layer in group}
    pieces = {}  # by the ids of layers: their parts of what a joined one returned

    def call(layer, inputs):
        group = group_of.get(id(layer))
        if group is None:
            return None
        if id(layer) not in pieces:
            each = [one.get_weights() for one in group]
            weights = [np.concatenate(parts, -1) for parts in zip(*each, strict=True)]
            name = f"{layer.name}_and_{len(group) - 1}_more"
            joined = _convolve(inputs, layer, weights, name=name)
            ends = np.cumsum([one.filters for one in group])[:-1].tolist()
            parts = ops.split(joined, ends, axis=-1)
            pieces.update(zip(map(id, group), parts, strict=True))
        return pieces[id(layer)]

    return _rebuilt(model, call)


def _rebuilt(model: keras.Model, call: Callable) -> keras.Model:
    """A copy of a model, some of whose layers are called otherwise.

    Args:
        model: A functional model.
        call: From a layer and what it reads to what takes its result's place, or to
            `None` where the layer itself is copied.
    """
    copies = {}

    def call_or_copy(layer, *arguments, **keywords):
        result = call(layer, arguments[0] if arguments else None)
        if result is not None:
            return result
        if not isinstance(layer, keras.layers.Layer):
            return layer(*arguments, **keywords)
        if id(layer) not in copies:
            copies[id(layer)] = layer.__class__.from_config(layer.get_config())
        result = copies[id(layer)](*arguments, **keywords)
        copies[id(layer)].set_weights(layer.get_weights())
        return result

    return keras.models.clone_model(
        keras.Model(model.input, model.output, name=model.name),
        clone_function=lambda layer: layer,
        call_function=call_or_copy,
    )


def _convolve(inputs, like, weights, **settings):
    """What a convolution returns that has these weights, and is else like another."""
    config = like.get_config() | {
        "filters": weights[0].shape[-1],
        "use_bias": len(weights) == 2,
        **settings,
    }
    layer = Conv2D.from_config(config)
    outputs = layer(inputs)
    layer.set_weights(weights)
    return outputs


def _normalized(convolution, norm) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution that normalises as well."""
    array = ops.convert_to_numpy
    scale = 1 / np.sqrt(array(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * array(norm.gamma)
    bias = -array(norm.moving_mean)
    if convolution.use_bias:
        bias = bias + array(convolution.bias)
    bias = bias * scale + (array(norm.beta) if norm.center else 0)
    return array(convolution.kernel) * scale, bias


def _is_convolution(layer) -> bool:
    return type(layer) is Conv2D and layer.data_format == "channels_last"


def _is_linear(layer) -> bool:
    return layer.activation is keras.activations.linear


def _is_pointwise(layer) -> bool:
    return (
        _is_convolution(layer)
        and layer.kernel_size == layer.strides == (1, 1)
        and layer.groups == 1
    )


def _normalizes_channels(layer) -> bool:
    return type(layer) is keras.layers.BatchNormalization and layer.axis in (-1, 3)


def _is_plain_relu(layer) -> bool:
    return type(layer) is keras.layers.ReLU and not (
        layer.max_value or layer.negative_slope or layer.threshold
    )


def _only_readers(model: keras.Model) -> dict[int, keras.layers.Layer]:
    """By the id of a layer, the one layer that reads it; where both are called once."""
    steps = steps_to(*_outputs(model))
    calls = Counter(id(step.operation) for step in steps)
    readers = {}
    for step in steps:
        for tensor in step.input_tensors:
            maker = tensor._keras_history.operation
            readers.setdefault(id(maker), []).append(step.operation)
    for tensor in _outputs(model):
        readers.setdefault(id(tensor._keras_history.operation), []).append(None)
    return {
        maker: found[0]
        for maker, found in readers.items()
        if len(found) == 1 and calls[maker] == 1 and calls[id(found[0])] == 1
    }


def _outputs(model: keras.Model) -> list[keras.KerasTensor]:
    return keras.tree.flatten(model.output)
