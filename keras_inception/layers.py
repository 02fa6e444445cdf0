"""Layers that Keras lacks, or has in a slower form."""

from typing import Any

import keras
import numpy as np
from keras import ops

PACKAGE = "keras_inception"  # Keras saves our classes under this name


@keras.saving.register_keras_serializable(PACKAGE)
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each value by the energy of its neighbors along the last axis.

    `y[c] = x[c] / (bias + alpha / size * sum(x[c']^2))^beta`, the sum over the `size`
    channels centered on `c`; channels beyond the edges count as zero. Krizhevsky et
    al. 2012, section 3.3, with Caffe's division of `alpha` by `size`
    (`lrn_layer.cpp`), which `tf.nn.local_response_normalization` does not have.

    Args:
        size: Number of channels in the window; odd. Defaults to 5.
        alpha: Factor of the energy. Defaults to 1e-4.
        beta: Exponent. Defaults to 0.75.
        bias: Constant of the divisor, which keeps it away from zero. Defaults to 1.

    Input and output shape: `(batch, ..., channels)`.

    Raises:
        ValueError: If `size` is not a positive odd number.

    Example:
    >>> y = LocalResponseNormalization()(np.ones((1, 4, 4, 8), "float32"))
    >>> tuple(y.shape)
    (1, 4, 4, 8)
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        bias: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(
                "LocalResponseNormalization centers its window on a channel: `size` "
                f"must be odd and positive. Received: {size}"
            )
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, inputs: Any) -> Any:
        strength = self.alpha / self.size

        @ops.custom_gradient
        def normalize(x):
            divisor = self.bias + self._sum_of_neighbors(ops.square(x), strength)
            factor = self.power(divisor)

            def gradient(*arguments, upstream=None):
                # Automatic differentiation gives the same in twice as many passes over
                # the values. The window is symmetric, so the sum is its own transpose.
                through = (arguments[0] if upstream is None else upstream) * factor
                shared = self._sum_of_neighbors(
                    through * x / divisor, 2 * self.beta * strength
                )
                return through - x * shared

            return x * factor, gradient

        return normalize(inputs)

    def _sum_of_neighbors(self, values, factor: float):
        """Multiplies by a band matrix, which costs less than adding shifted copies."""
        shape, channels = ops.shape(values), values.shape[-1]
        band = ops.cast(self.band(channels, factor), values.dtype)
        return ops.reshape(ops.matmul(ops.reshape(values, (-1, channels)), band), shape)

    def band(self, channels: int, factor: float) -> np.ndarray:
        """Returns a matrix `(channels, channels)`: `factor` in the window, else 0."""
        index = np.arange(channels)
        return factor * (abs(index - index[:, None]) <= self.size // 2)

    def power(self, divisor: Any) -> Any:
        """Raises the divisor to the power of `-beta`: the factor on the inputs."""
        if self.beta == 0.75:  # two square roots cost much less than a power
            root = ops.rsqrt(divisor)
            return root * ops.sqrt(root)
        return ops.power(divisor, -self.beta)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        names = ("size", "alpha", "beta", "bias")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(PACKAGE)
class MaxPooling(keras.layers.MaxPooling2D):
    """Keras's `MaxPooling2D` with a faster gradient on JAX; the same elsewhere.

    XLA computes the gradient of a maximum over windows by scattering, which took two
    fifths of GoogLeNet's training step on a GPU. Here, with `padding="same"`, the
    maximum of a window is that of shifted slices: first of rows, then of columns, and
    its gradient needs only comparisons. Where several values of a window equal the
    maximum, one of them gets the gradient; it need not be the one that XLA would pick.

    Args:
        *args, **kwargs: As `keras.layers.MaxPooling2D`.

    Example:
    >>> y = MaxPooling(3, 2, padding="same")(np.ones((1, 8, 8, 3), "float32"))
    >>> tuple(y.shape)
    (1, 4, 4, 3)
    """

    def call(self, inputs: Any) -> Any:
        known = None not in inputs.shape[1:3]
        by_slices = self.padding == "same" and self.data_format == "channels_last"
        if not (known and by_slices and keras.backend.backend() == "jax"):
            return super().call(inputs)
        rows = _maximum(inputs, 1, self.pool_size[0], self.strides[0])
        return _maximum(rows, 2, self.pool_size[1], self.strides[1])


def _maximum(x, axis: int, size: int, stride: int):
    """Returns the maxima of windows along one axis, padded as `"same"` pads."""
    outputs = -(-x.shape[axis] // stride)
    reach = (outputs - 1) * stride + 1
    padding = max(reach - 1 + size - x.shape[axis], 0)
    widths = [(0, 0)] * len(x.shape)
    widths[axis] = (padding // 2, padding - padding // 2)
    x = ops.pad(x, widths, constant_values=-np.inf)
    before = (slice(None),) * axis
    first, *others = [x[*before, k : k + reach : stride] for k in range(size)]
    for other in others:
        # A NaN stays; `ops.maximum` would halve the gradient of equal values.
        first = ops.where((first >= other) | (first != first), first, other)
    return first


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's `BatchNormalization` with a faster training step on TensorFlow.

    Keras computes mean, variance and result one after the other, in float32. TensorFlow
    has one operation for them, and one for the gradient. It is used in training, for
    pictures in float32 or bfloat16 with the channels last; everything else is Keras's,
    and so are variables, config and files.

    Args:
        *args, **kwargs: As `keras.layers.BatchNormalization`.

    Example:
    >>> y = BatchNormalization()(np.ones((1, 4, 4, 8), "float32"), training=True)
    >>> tuple(y.shape)
    (1, 4, 4, 8)
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable and mask is None and self._fits(inputs)):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        gamma = self.gamma if self.scale else tf.ones(channels)
        beta = self.beta if self.center else tf.zeros(channels)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(gamma),
            offset=ops.convert_to_tensor(beta),
            mean=tf.zeros(0),  # not for training
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation divides the variance by one less than the number of values,
        # Keras by the number itself.
        values = tf.cast(tf.size(inputs) // channels, "float32")
        variance *= tf.maximum(values - 1, 1) / values
        for average, now in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            average.assign(average * self.momentum + now * (1 - self.momentum))
        return outputs

    def _fits(self, inputs: Any) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16")
            and self.variable_dtype == "float32"
            and not (self.renorm or self.synchronized)
        )
