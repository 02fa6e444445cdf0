"""Where heads hang if only their number is given."""

import itertools

import keras

from keras_inception.graph import layer_of, multiply_adds_by_step, narrow_endpoints

# What only moves or drops values: a head better reads what comes before.
_MOVES_VALUES = (
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


def evenly_placed(model: keras.Model, count: int) -> list[str]:
    """The layers that divide a model into parts of about equal computation.

    Only layers through whose output everything passes are taken: the ends of residual
    blocks and modules, not the insides. Among places after the same computation the
    last is taken, which follows the normalisation and the activation.

    Args:
        model: A functional model with one output and an input of fixed size.
        count: How many places, at least 1.

    Returns:
        Names of layers, in network order. After the k-th lie, as nearly as there is a
        place, `k / (count + 1)` of the multiply-adds.

    Raises:
        ValueError: If there are fewer places than asked for, or the model leaves a
            size open that the multiply-adds depend on.

    Example:
    >>> model = detach_auxiliary(GoogLeNet((64, 64, 3), classes=3))
    >>> evenly_placed(model, 2)
    ['conv2_norm2', 'inception_4b']
    """
    (main,) = model.outputs
    places = _places(model, main)
    if not 1 <= count <= len(places):
        raise ValueError(
            f"heads={count}: this model has {len(places)} places for heads, layers "
            "through whose output everything passes"
            + (": " + ", ".join(name for name, _ in places) if places else "")
            + ". Ask for at least one and at most that many, or name layers."
        )
    chosen, start = [], 0
    for k in range(1, count + 1):
        # leave enough places for the heads that follow
        free = range(start, len(places) - (count - k))
        target = k / (count + 1)
        best = min(free, key=lambda index: abs(places[index][1] - target))
        chosen.append(places[best][0])
        start = best + 1
    return chosen


def _places(model, main) -> list[tuple[str, float]]:
    """Layers that a head can read, with the share of the computation up to them."""
    spent = list(itertools.accumulate(multiply_adds_by_step(model, main)))
    total = spent[-1]
    by_spent = {}
    for index, tensor in narrow_endpoints(main):
        layer = layer_of(tensor)
        readable = (
            isinstance(layer, keras.layers.Layer)
            and not isinstance(layer, _MOVES_VALUES)
            and 2 <= len(tensor.shape) <= 4
            and "float" in tensor.dtype
        )
        if readable and 0 < spent[index] < total:
            by_spent[spent[index]] = layer.name
    return [(name, done / total) for done, name in by_spent.items()]
