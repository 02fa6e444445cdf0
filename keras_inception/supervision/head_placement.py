"""Chooses endpoints for heads if only their number is given."""

import itertools
from typing import NamedTuple

import keras

from keras_inception.graph import (
    multiply_adds_by_step,
    narrow_endpoints,
    steps_to,
)

# Layers that only move, pool or drop values; a head had better read their input.
_NOT_FOR_HEADS = (
    keras.layers.InputLayer,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
)


class Endpoint(NamedTuple):
    """An endpoint for a head, and the cost of one example's forward pass up to it."""

    name: str  # of its layer
    tensor: keras.KerasTensor
    multiply_adds: int
    share: float  # of main's multiply-adds


def evenly_placed(model: keras.Model, count: int) -> list[str]:
    """Chooses endpoints that divide a model into parts of about equal computation.

    Only endpoints that every path to the output passes through are considered: the
    ends of residual blocks and modules, not their insides. Of several after the same
    number of multiply-adds the last is taken, which follows normalization and
    activation.

    Returns:
        Names of layers, in network order. Up to the k-th, about `k / (count + 1)` of
        the multiply-adds are done.

    Raises:
        ValueError: If there are fewer such endpoints than `count`, or the model leaves
            a size open that the multiply-adds depend on.

    Example:
    >>> model = detach_auxiliary(GoogLeNet((64, 64, 3), classes=3))
    >>> evenly_placed(model, 2)
    ['conv2_norm2', 'inception_4b']
    """
    (main,) = model.outputs
    endpoints = endpoints_for_heads(model, main)
    if not 1 <= count <= len(endpoints):
        names = ", ".join(endpoint.name for endpoint in endpoints) or "none"
        raise ValueError(
            f"heads={count} must be at least 1 and at most {len(endpoints)}, the "
            f"number of endpoints that every path passes through: {names}."
        )
    chosen, start = [], 0
    for k in range(1, count + 1):
        # Leave enough endpoints for the heads that follow.
        free = range(start, len(endpoints) - (count - k))
        target = k / (count + 1)
        best = min(free, key=lambda index: abs(endpoints[index].share - target))
        chosen.append(endpoints[best].name)
        start = best + 1
    return chosen


def endpoints_for_heads(model: keras.Model, main: keras.KerasTensor) -> list[Endpoint]:
    """Lists the endpoints before `main` that every path passes through.

    Of several after the same number of multiply-adds, the last one.
    """
    spent = list(itertools.accumulate(multiply_adds_by_step(model, main)))
    total = spent[-1]
    # A name means the first call of its layer, as in `attach_auxiliary`.
    first_calls: dict[str, int] = {}
    steps = steps_to(main)
    for index, step in enumerate(steps):
        first_calls.setdefault(step.operation.name, index)
    by_spent = {}
    for index, tensor in narrow_endpoints(main):
        layer = steps[index].operation
        if (
            0 < spent[index] < total
            and first_calls[layer.name] == index
            and isinstance(layer, keras.layers.Layer)
            and not isinstance(layer, _NOT_FOR_HEADS)
            and 2 <= len(tensor.shape) <= 4
            and "float" in tensor.dtype
        ):
            share = spent[index] / total
            by_spent[spent[index]] = Endpoint(layer.name, tensor, spent[index], share)
    return list(by_spent.values())
