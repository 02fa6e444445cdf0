"""Builds each kind of row of an architecture's table from Keras layers.

The building blocks are functions that add named layers, not layers themselves, so that
a model stays flat: every convolution can be found, frozen, logged or loaded by the name
that it has in BVLC's model (`inception_3a_5x5_reduce`).
"""

import keras
from keras import KerasTensor

from keras_inception import architecture as table
from keras_inception.layers import (
    BatchNormalization,
    LocalResponseNormalization,
    MaxPooling,
)


def normalize_pixels(x: KerasTensor, architecture: table.Architecture) -> KerasTensor:
    """Subtracts the table's mean from raw RGB pixels 0..255, and scales the rest."""
    scale = architecture.input_scale
    offset = [-mean * scale for mean in architecture.input_mean]
    return keras.layers.Rescaling(scale, offset, name="input_normalization")(x)


def build_row(
    x: KerasTensor, row: table.Row, name: str, *, width: float, batch_norm: bool
) -> KerasTensor:
    """Applies one row of a table; `name` is that of the stage and of its main layer."""
    match row:
        case table.Conv():
            row = row._replace(filters=scaled(row.filters, width))
            return convolution(x, row, name, batch_norm)
        case table.Inception():
            return inception_module(x, row, name, width=width, batch_norm=batch_norm)
        case table.MaxPool():
            # At even sizes Keras's "same" equals Caffe's ceil mode: the padding is at
            # the bottom and the right.
            return MaxPooling(row.size, row.strides, padding="same", name=name)(x)
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
    x: KerasTensor, row: table.Conv, name: str, batch_norm: bool
) -> KerasTensor:
    """Adds a convolution and a ReLU, with batch normalization between them if asked.

    The convolution's layer is called `name`; with `batch_norm` the layers `NAME_bn` and
    `NAME_relu` follow it.
    """
    pad_first = row.strides > 1 and row.padding == "even"
    if pad_first:
        # With strides "same" pads more at the bottom and the right.
        x = keras.layers.ZeroPadding2D(row.size // 2, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        row.filters,
        row.size,
        row.strides,
        padding="valid" if pad_first else "same",
        activation=None if batch_norm else "relu",
        use_bias=not batch_norm,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_norm:
        # With Keras's default momentum, 0.99, the averages lag hundreds of steps.
        x = BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return x


def inception_module(
    x: KerasTensor,
    row: table.Inception,
    name: str,
    *,
    width: float,
    batch_norm: bool,
) -> KerasTensor:
    """Adds four parallel branches and joins their channels (paper, Figure 2b)."""

    def conv(x, filters: int, size: int, part: str):
        conv = table.Conv(scaled(filters, width), size)
        return convolution(x, conv, f"{name}_{part}", batch_norm)

    # fmt: off
    one   = conv(x, row.conv_1x1, 1, "1x1")
    three = conv(x, row.reduce_3x3, 1, "3x3_reduce")
    three = conv(three, row.conv_3x3, 3, "3x3")
    five  = conv(x, row.reduce_5x5, 1, "5x5_reduce")
    five  = conv(five, row.conv_5x5, row.wide_size, "5x5")
    pool  = MaxPooling(3, 1, padding="same", name=f"{name}_pool")(x)
    pool  = conv(pool, row.pool_proj, 1, "pool_proj")
    # fmt: on
    return keras.layers.Concatenate(name=name)([one, three, five, pool])
