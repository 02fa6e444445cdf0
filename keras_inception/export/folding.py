"""Rewrites a network for inference: the same answers from other operations.

The model that people read has a layer for each row of its table. The exports for other
runtimes, or in fewer bits, are derived from it: batch normalization is folded into the
convolution before it, and response normalization is written as each runtime computes it
fastest.
"""

from collections import Counter, defaultdict
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_inception.graph import Step, layer_of, step_of, steps_to
from keras_inception.layers import BatchNormalization, LocalResponseNormalization

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
    """Copies a functional model with batch normalization folded, for inference only.

    Layers of class `normalization` replace `LocalResponseNormalization`. `dtype`
    applies between the scaled pixels and the layers that make the outputs; those, and
    logits below a softmax, keep theirs. By default all layers do.
    """
    if dtype is not None:
        _check_flat(model, dtype)
    outputs = keras.tree.flatten(model.output)
    steps = steps_to(*outputs)
    only_reader = _only_readers(steps, outputs)
    exact = _makers_of(outputs)
    folds: dict[int, tuple] = {}  # convolution's id: its normalization and activation
    absorbed: set[int] = set()  # ids of the layers that became part of a convolution
    for step in steps:
        layer = step.operation
        norm = only_reader.get(id(layer))
        if _can_fold(layer, norm):
            relu = only_reader.get(id(norm))
            relu = relu if _is_plain_relu(relu) else None
            folds[id(layer)] = (norm, relu)
            absorbed.update((id(norm), id(relu)))
    copies: dict[int, keras.layers.Layer] = {}

    def config_of(layer: keras.layers.Layer) -> dict:
        config = layer.get_config()
        keeps = dtype is None or id(layer) in exact or isinstance(layer, _SCALING)
        return config if keeps else config | {"dtype": dtype}

    def call(layer: Any, *arguments: Any, **keywords: Any) -> Any:
        if id(layer) in absorbed:
            return arguments[0]
        if not isinstance(layer, keras.layers.Layer):
            return layer(*arguments, **keywords)
        if type(layer) is LocalResponseNormalization:
            return normalization.from_config(config_of(layer))(*arguments)
        weights = layer.get_weights()
        if id(layer) in folds:
            norm, relu = folds[id(layer)]
            weights = _folded_weights(layer, norm)
            config = {"use_bias": True, "activation": relu and "relu"}
            copies[id(layer)] = Conv2D.from_config(config_of(layer) | config)
        if id(layer) not in copies:
            copies[id(layer)] = layer.__class__.from_config(config_of(layer))
        result = copies[id(layer)](*arguments, **keywords)
        copies[id(layer)].set_weights(weights)
        return result

    return keras.models.clone_model(
        keras.Model(model.input, model.output, name=model.name),
        clone_function=lambda layer: layer,
        call_function=call,
    )


def _folded_weights(convolution: Any, norm: Any) -> list[np.ndarray]:
    """Kernel and bias of a convolution that includes its batch normalization."""
    array = ops.convert_to_numpy
    scale = 1 / np.sqrt(array(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * array(norm.gamma)
    bias = -array(norm.moving_mean)
    if convolution.use_bias:
        bias = bias + array(convolution.bias)
    bias = bias * scale + (array(norm.beta) if norm.center else 0)
    return [array(convolution.kernel) * scale, bias]


def _check_flat(model: keras.Model, dtype: str) -> None:
    inner = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if inner:
        raise ValueError(
            f"The model contains a model called {inner[0]!r}, whose layers {dtype} "
            "would not reach. Build the classifier on its output (`base.output`) "
            "instead of calling it (`base(inputs)`), or leave out dtype."
        )


def _makers_of(outputs: list[keras.KerasTensor]) -> set[int]:
    """The ids of the layers that make the outputs, and the logits below a softmax."""
    makers = set()
    for step in map(step_of, outputs):
        makers.add(id(step.operation))
        if not getattr(step.operation, "weights", None):
            makers.update(id(layer_of(tensor)) for tensor in step.input_tensors)
    return makers


def _can_fold(layer: Any, norm: Any) -> bool:
    return (
        type(layer) is Conv2D
        and layer.data_format == "channels_last"
        and layer.activation is keras.activations.linear
        and type(norm) in (keras.layers.BatchNormalization, BatchNormalization)
        and norm.axis in (-1, 3)
    )


def _is_plain_relu(layer: Any) -> bool:
    return type(layer) is keras.layers.ReLU and not (
        layer.max_value or layer.negative_slope or layer.threshold
    )


def _only_readers(
    steps: list[Step], outputs: list[keras.KerasTensor]
) -> dict[int, keras.Operation]:
    """Maps a layer's id to the only layer that reads it, if both are called once."""
    calls = Counter(id(step.operation) for step in steps)
    readers: defaultdict[int, list] = defaultdict(list)
    for step in steps:
        for tensor in step.input_tensors:
            readers[id(layer_of(tensor))].append(step.operation)
    for tensor in outputs:
        readers[id(layer_of(tensor))].append(None)
    return {
        maker: found[0]
        for maker, found in readers.items()
        if len(found) == 1 and calls[maker] == 1 and calls[id(found[0])] == 1
    }
