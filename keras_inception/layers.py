"""Builds each kind of row of an architecture's table from Keras layers.

The building blocks are functions that add named layers, not layers themselves, so that
a model stays flat: every convolution can be found, frozen, logged or loaded by the name
that it has in BVLC's model (`inception_3a_5x5_reduce`).
"""

import keras
import numpy as np
from keras import ops

from keras_inception import architecture as table

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(
                "LocalResponseNormalization needs a window centered on its channel: "
                f"`size` must be odd and positive, for example 5. Received: {size}"
            )
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, inputs):
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

    def power(self, divisor):
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


def normalize_pixels(x, architecture: table.Architecture):
    """Subtracts the table's mean from raw RGB pixels 0..255, and scales the rest."""
    scale = architecture.input_scale
    return keras.layers.Rescaling(
        scale,
        offset=[-mean * scale for mean in architecture.input_mean],
        name="input_normalization",
    )(x)


def build_row(x, row: table.Row, name: str, *, width: float, batch_norm: bool):
    """Applies one row of a table; the layer called `name` ends or holds the stage."""
    match row:
        case table.Conv():
            filters = scaled(row.filters, width)
            return convolution(
                x, filters, row.size, row.strides, name, batch_norm, row.padding
            )
        case table.Inception():
            return inception_module(x, row, name, width=width, batch_norm=batch_norm)
        case table.MaxPool():
            # At even sizes Keras's "same" equals Caffe's ceil mode: the padding is at
            # the bottom and the right.
            return keras.layers.MaxPooling2D(
                row.size, row.strides, padding="same", name=name
            )(x)
        case table.LocalResponseNorm():
            return LocalResponseNormalization(**row._asdict(), name=name)(x)
        case table.GlobalAveragePool():
            return keras.layers.GlobalAveragePooling2D(name=name)(x)
        case table.Dropout():
            return keras.layers.Dropout(row.rate, name=name)(x)
    raise TypeError(
        f"Stage {name!r}: a row must be a Conv, MaxPool, LocalResponseNorm, Inception, "
        f"GlobalAveragePool or Dropout. Received: {row!r}"
    )


def scaled(filters: int, width: float) -> int:
    """Returns `filters` times `width`, rounded, at least 1."""
    return max(1, round(filters * width))


def convolution(
    x,
    filters: int,
    size: int,
    strides: int,
    name: str,
    batch_norm: bool,
    padding: str = "even",
):
    """Adds a convolution and a ReLU, with batch normalization between them if asked.

    The convolution's layer is called `name`; with `batch_norm` the layers `NAME_bn` and
    `NAME_relu` follow it. `padding` is described at `architecture.Conv`.
    """
    pad_first = strides > 1 and padding == "even"
    if pad_first:
        # With strides "same" pads more at the bottom and the right.
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="valid" if pad_first else "same",
        activation=None if batch_norm else "relu",
        use_bias=not batch_norm,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_norm:
        # With Keras's default momentum, 0.99, the averages lag hundreds of steps.
        x = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-3, name=f"{name}_bn"
        )(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return x


def inception_module(
    x, row: table.Inception, name: str, *, width: float, batch_norm: bool
):
    """Adds four parallel branches and joins their channels (paper, Figure 2b)."""

    def conv(x, filters: int, size: int, part: str):
        return convolution(
            x, scaled(filters, width), size, 1, f"{name}_{part}", batch_norm
        )

    # fmt: off
    one   = conv(x, row.conv_1x1, 1, "1x1")
    three = conv(x, row.reduce_3x3, 1, "3x3_reduce")
    three = conv(three, row.conv_3x3, 3, "3x3")
    five  = conv(x, row.reduce_5x5, 1, "5x5_reduce")
    five  = conv(five, row.conv_5x5, row.wide_size, "5x5")
    pool  = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    pool  = conv(pool, row.pool_proj, 1, "pool_proj")
    # fmt: on
    return keras.layers.Concatenate(name=name)([one, three, five, pool])


def head_logits(
    x,
    name: str,
    classes: int,
    *,
    filters: int = 128,
    units: int = 1024,
    dropout: float = 0.7,
    batch_norm: bool = False,
    adaptive_pool: bool = False,
):
    """Adds an auxiliary classifier up to its logits (paper, section 5).

    Average pool, 1x1 convolution to `filters`, dense `units`, dropout, dense `classes`;
    the layers are `NAME_ave_pool`, `NAME_conv`, `NAME_fc`, `NAME_drop_fc` and
    `NAME_classifier`. Vectors and sequences skip the pool and the convolution; a
    sequence is averaged over its steps.

    Raises:
        ValueError: If `x` is not feature maps, sequences or vectors.
    """
    rank = len(x.shape)
    if rank == 4:
        x = _head_pool(x, f"{name}_ave_pool", adaptive_pool)
        x = convolution(x, filters, 1, 1, f"{name}_conv", batch_norm)
        x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    elif rank == 3:
        x = keras.layers.GlobalAveragePooling1D(name=f"{name}_ave_pool")(x)
    elif rank != 2:
        raise ValueError(
            f"Head {name!r} needs feature maps (batch, height, width, channels), a "
            "sequence (batch, steps, features) or vectors (batch, features). "
            f"Received the shape: {tuple(x.shape)}"
        )
    x = keras.layers.Dense(
        units, activation="relu", kernel_initializer="he_normal", name=f"{name}_fc"
    )(x)
    x = keras.layers.Dropout(dropout, name=f"{name}_drop_fc")(x)
    return keras.layers.Dense(classes, name=f"{name}_classifier")(x)


def _head_pool(x, name: str, adaptive: bool):
    """Adds the paper's pool, 5x5 windows with stride 3, on maps of up to 16x16.

    A smaller map than the window is pooled whole. On a larger one than 16x16 the
    windows grow and the grid stays 4x4, so that the dense layer stays small.
    """
    sides = x.shape[1:3]
    if adaptive or any(side is None or side > 16 for side in sides):
        return keras.layers.AdaptiveAveragePooling2D(4, name=name)(x)
    window = tuple(min(5, side) for side in sides)
    return keras.layers.AveragePooling2D(window, 3, name=name)(x)
