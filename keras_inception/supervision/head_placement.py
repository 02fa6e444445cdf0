"""Chooses endpoints for heads if only their number is given."""

import itertools
from typing import NamedTuple

import keras

from keras_inception.costs import multiply_adds_of
from keras_inception.graph import layer_of, narrow_endpoints, steps_to, unfold

# Layers that only move, pool or drop values; a head should read their input instead.
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

    name: str  # its path, in a sub-model
    tensor: keras.KerasTensor  # in the graph without sub-models
    multiply_adds: int
    share: float  # of main's multiply-adds


def evenly_placed(model: keras.Model, count: int) -> list[str]:
    """Chooses endpoints that divide a model into parts of about equal computation.

    Only endpoints that every path to the output passes through are considered: the
    ends of residual blocks and modules, not their insides. Of several after the same
    number of multiply-adds the last is taken, which follows normalization and
    activation.

    Returns:
        Names of layers, in network order; those in sub-models by their path. Up to the
        k-th, about `k / (count + 1)` of the multiply-adds are done.

    Raises:
        ValueError: If there are fewer such endpoints than `count`, or the model leaves
            a size open that the multiply-adds depend on.

    Example:
    >>> model = detach_auxiliary(GoogLeNet((64, 64, 3), classes=3))
    >>> evenly_placed(model, 2)
    ['conv2_norm2', 'inception_4b']
    """
    endpoints = endpoints_for_heads(model)
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


def endpoints_for_heads(model: keras.Model) -> list[Endpoint]:
    """Lists the endpoints of a classifier that every path passes through.

    Of several after the same number of multiply-adds, the last one.
    """
    flat = unfold(model)
    (main,) = flat.outputs
    # The last layer of a sub-model is called by the sub-model, which comes after it.
    names = {id(tensor): path for path, tensor in flat.endpoints.items()}
    spent = list(itertools.accumulate(map(multiply_adds_of, steps_to(main))))
    total = spent[-1]
    by_spent = {}
    for index, tensor in narrow_endpoints(main):
        layer, done = layer_of(tensor), spent[index]
        if (
            0 < done < total
            and id(tensor) in names
            and isinstance(layer, keras.layers.Layer)
            and not isinstance(layer, _NOT_FOR_HEADS)
            and 2 <= len(tensor.shape) <= 4
            and "float" in tensor.dtype
        ):
            by_spent[done] = Endpoint(names[id(tensor)], tensor, done, done / total)
    return list(by_spent.values())
