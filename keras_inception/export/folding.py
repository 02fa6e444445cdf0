"""The network as runtimes like it: the same answers from other steps.

The model that people read has a layer for each row of its table. What is exported for
other runtimes, or in fewer bits, is derived from it: batch normalisation becomes part
of the convolution before it, and response normalisation is written as each runtime
computes it fastest.
"""

from collections import Counter
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_inception.graph import layer_of, step_of, steps_to
from keras_inception.layers import LocalResponseNormalization

Conv2D = keras.layers.Conv2D
_SCALING = (keras.layers.Rescaling, keras.layers.Normalization)


class OneOperation(LocalResponseNormalization):
    """Response normalisation as the one operation that OpenVINO and LiteRT know."""

    def call(self, inputs):
        return tf.nn.local_response_normalization(
            inputs, self.size // 2, self.bias, self.alpha / self.size, self.beta
        )


class Convolved(LocalResponseNormalization):
    """Response normalisation whose sum is a 1x1 convolution, in the layout of others.

    ONNX Runtime has the one operation as well, but is slow at it: docs/performance.md.
    """

    def call(self, inputs):
        band = self.band(inputs.shape[-1], self.alpha / self.size)
        kernel = tf.constant(band[None, None], inputs.dtype)
        energy = tf.nn.conv2d(tf.square(inputs), kernel, 1, "SAME")
        bias = tf.constant(self.bias, inputs.dtype, inputs.shape[-1:])
        return inputs * self.power(tf.nn.bias_add(energy, bias))


def for_runtimes(
    model: keras.Model,
    normalization: type[LocalResponseNormalization] = OneOperation,
    dtype: str | None = None,
) -> keras.Model:
    """A new model with the same inputs, outputs and answers, made for inference.

    The weights are copies, and the model itself is left as it is.

    Args:
        model: A functional model.
        normalization: What takes the place of `LocalResponseNormalization`.
        dtype: What is computed and held in between the scaled pixels and the layers
            that make the outputs or, where these are a softmax alone, their logits:
            those stay as they are. Defaults to the layers' own.

    Returns:
        A functional model whose inputs and outputs have the shapes and names of
        `model`'s.

    Raises:
        ValueError: If there is a dtype, and a model within the model that it would not
            reach.

    Example:
    >>> import keras_inception as ki
    >>> model = ki.GoogLeNet((64, 64, 3), 3, (), width=0.125, batch_norm=True)
    >>> len(model.layers), len(for_runtimes(model).layers)
    (202, 88)
    """
    if dtype is not None:
        _check_flat(model, dtype)
    next_of = _only_readers(model)
    exact = _makers_of_outputs(model)
    folds, absorbed = {}, set()  # by the ids of layers
    for step in steps_to(*_outputs(model)):
        layer = step.operation
        norm = next_of.get(id(layer))
        if _is_convolution(layer) and _is_linear(layer) and _normalizes_channels(norm):
            relu = next_of.get(id(norm))
            relu = relu if _is_plain_relu(relu) else None
            folds[id(layer)] = (norm, relu)
            absorbed.update((id(norm), id(relu)))

    def config(layer) -> dict:
        own = layer.get_config()
        keeps = dtype is None or id(layer) in exact or isinstance(layer, _SCALING)
        return own if keeps else own | {"dtype": dtype}

    def call(layer, inputs):
        if id(layer) in absorbed:
            return inputs
        if id(layer) in folds:
            norm, relu = folds[id(layer)]
            weights = _normalized(layer, norm)
            return _convolve(inputs, config(layer), weights, relu and "relu")
        if type(layer) is LocalResponseNormalization:
            return normalization.from_config(config(layer))(inputs)
        return None

    return _rebuilt(model, call, config)


def _rebuilt(model: keras.Model, call: Callable, config: Callable) -> keras.Model:
    """A copy of a model, some of whose layers are called otherwise.

    Args:
        model: A functional model.
        call: From a layer and what it reads to what takes its result's place, or to
            `None` where the layer itself is copied.
        config: From a layer to the configuration of its copy.
    """
    copies = {}

    def call_or_copy(layer, *arguments, **keywords):
        result = call(layer, arguments[0] if arguments else None)
        if result is not None:
            return result
        if not isinstance(layer, keras.layers.Layer):
            return layer(*arguments, **keywords)
        if id(layer) not in copies:
            copies[id(layer)] = layer.__class__.from_config(config(layer))
        result = copies[id(layer)](*arguments, **keywords)
        copies[id(layer)].set_weights(layer.get_weights())
        return result

    return keras.models.clone_model(
        keras.Model(model.input, model.output, name=model.name),
        clone_function=lambda layer: layer,
        call_function=call_or_copy,
    )


def _convolve(inputs, config, weights, activation):
    """What a convolution of such a configuration returns that has these weights."""
    config = config | {"use_bias": True, "activation": activation}
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


def _check_flat(model: keras.Model, dtype: str) -> None:
    inner = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if inner:
        raise ValueError(
            f"{dtype} reaches no layer of a model within the model. Received one "
            f"called {inner[0]!r}. Build the classifier on its output (`base.output`) "
            "instead of calling it (`base(inputs)`), or leave out the dtype."
        )


def _makers_of_outputs(model: keras.Model) -> set[int]:
    """The ids of the layers that make the outputs, and the logits of a softmax."""
    makers = set()
    for tensor in _outputs(model):
        step = step_of(tensor)
        makers.add(id(step.operation))
        if not getattr(step.operation, "weights", None):
            makers.update(id(step_of(x).operation) for x in step.input_tensors)
    return makers


def _is_convolution(layer) -> bool:
    return type(layer) is Conv2D and layer.data_format == "channels_last"


def _is_linear(layer) -> bool:
    return layer.activation is keras.activations.linear


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
            maker = layer_of(tensor)
            readers.setdefault(id(maker), []).append(step.operation)
    for tensor in _outputs(model):
        readers.setdefault(id(layer_of(tensor)), []).append(None)
    return {
        maker: found[0]
        for maker, found in readers.items()
        if len(found) == 1 and calls[maker] == 1 and calls[id(found[0])] == 1
    }


def _outputs(model: keras.Model) -> list[keras.KerasTensor]:
    return keras.tree.flatten(model.output)
