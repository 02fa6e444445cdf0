"""Rewrites a network for inference: the same answers from other operations.

The model that people read has a layer for each row of its table. The exports for other
runtimes, or in fewer bits, are derived from it: batch normalization is folded into the
convolution before it, and response normalization is written as each runtime computes it
fastest.
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


class FusedNormalization(LocalResponseNormalization):
    """Response normalization as TensorFlow's operation, for OpenVINO and LiteRT."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.local_response_normalization(
            inputs, self.size // 2, self.bias, self.alpha / self.size, self.beta
        )


class ConvolutionNormalization(LocalResponseNormalization):
    """Response normalization whose sum is a 1x1 convolution, for ONNX Runtime.

    ONNX Runtime has the operation as well, but is slow at it: docs/performance.md.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        band = self.band(inputs.shape[-1], self.alpha / self.size)
        kernel = tf.constant(band[None, None], inputs.dtype)
        energy = tf.nn.conv2d(tf.square(inputs), kernel, 1, "SAME")
        bias = tf.constant(self.bias, inputs.dtype, inputs.shape[-1:])
        return inputs * self.power(tf.nn.bias_add(energy, bias))


def inference_model(
    model: keras.Model,
    normalization: type[LocalResponseNormalization] = FusedNormalization,
    dtype: str | None = None,
) -> keras.Model:
    """Copies a model with its batch normalization folded, for inference only.

    The weights are copied; `model` is not changed.

    Args:
        model: A functional model.
        normalization: The layer that replaces `LocalResponseNormalization`.
        dtype: The dtype between the scaled pixels and the layers that make the outputs.
            Those stay as they are, and so do the logits below a softmax. Defaults to
            the layers' own dtypes.

    Returns:
        A functional model with inputs and outputs of the same shapes and names.

    Raises:
        ValueError: If `dtype` is given and the model contains another model, whose
            layers it would not reach.

    Example:
    >>> import keras_inception as ki
    >>> model = ki.GoogLeNet((64, 64, 3), 3, (), width=0.125, batch_norm=True)
    >>> len(model.layers), len(inference_model(model).layers)
    (202, 88)
    """
    if dtype is not None:
        _check_flat(model, dtype)
    only_reader = _only_readers(model)
    exact = _makers_of_outputs(model)
    folds: dict[int, tuple] = {}  # convolution's id: its normalization and activation
    absorbed: set[int] = set()  # ids of the layers that became part of a convolution
    for step in steps_to(*_outputs(model)):
        layer = step.operation
        norm = only_reader.get(id(layer))
        if _is_convolution(layer) and _is_linear(layer) and _normalizes_channels(norm):
            relu = only_reader.get(id(norm))
            relu = relu if _is_plain_relu(relu) else None
            folds[id(layer)] = (norm, relu)
            absorbed.update((id(norm), id(relu)))

    def config_of(layer: keras.layers.Layer) -> dict:
        config = layer.get_config()
        keeps = dtype is None or id(layer) in exact or isinstance(layer, _SCALING)
        return config if keeps else config | {"dtype": dtype}

    def replace(layer, inputs):
        if id(layer) in absorbed:
            return inputs
        if id(layer) in folds:
            norm, relu = folds[id(layer)]
            weights = _folded_weights(layer, norm)
            return _convolve(inputs, config_of(layer), weights, relu and "relu")
        if type(layer) is LocalResponseNormalization:
            return normalization.from_config(config_of(layer))(inputs)
        return None

    return _rebuild(model, replace, config_of)


def _rebuild(model: keras.Model, replace: Callable, config_of: Callable) -> keras.Model:
    """Copies a model, with other calls in place of some layers.

    Args:
        model: A functional model.
        replace: From a layer and its input to the output that replaces the layer's, or
            `None` to copy the layer.
        config_of: From a layer to the configuration of its copy.
    """
    copies: dict[int, keras.layers.Layer] = {}

    def call_or_copy(layer, *arguments, **keywords):
        result = replace(layer, arguments[0] if arguments else None)
        if result is not None:
            return result
        if not isinstance(layer, keras.layers.Layer):
            return layer(*arguments, **keywords)
        if id(layer) not in copies:
            copies[id(layer)] = layer.__class__.from_config(config_of(layer))
        result = copies[id(layer)](*arguments, **keywords)
        copies[id(layer)].set_weights(layer.get_weights())
        return result

    return keras.models.clone_model(
        keras.Model(model.input, model.output, name=model.name),
        clone_function=lambda layer: layer,
        call_function=call_or_copy,
    )


def _convolve(inputs, config: dict, weights: tuple, activation: str | None):
    """Applies a new convolution with a bias and these weights."""
    config = config | {"use_bias": True, "activation": activation}
    layer = Conv2D.from_config(config)
    outputs = layer(inputs)
    layer.set_weights(weights)
    return outputs


def _folded_weights(convolution, norm) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution that includes its batch normalization."""
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
            f"The model contains a model called {inner[0]!r}, whose layers {dtype} "
            "would not reach. Build the classifier on its output (`base.output`) "
            "instead of calling it (`base(inputs)`), or leave out dtype."
        )


def _makers_of_outputs(model: keras.Model) -> set[int]:
    """The ids of the layers that make the outputs, and the logits below a softmax."""
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
    """Maps a layer's id to the only layer that reads it, if both are called once."""
    steps = steps_to(*_outputs(model))
    calls = Counter(id(step.operation) for step in steps)
    readers: dict[int, list] = {}
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
