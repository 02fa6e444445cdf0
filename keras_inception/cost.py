"""What a model costs to compute, counted from its layers."""

import math

import keras

from keras_inception.graph import steps_to


def multiply_adds(model: keras.Model) -> dict[str, int]:
    """Counts the multiply-adds of one example's forward pass, layer by layer.

    Convolutions (also depthwise, separable and transposed ones), dense and recurrent
    layers are counted, as is the custom of the field; additions, pools and
    normalisations are not.

    Args:
        model: A functional model whose input has fixed sizes but for the batch.

    Returns:
        Layer name to multiply-adds, in network order, for the layers that have any.

    Raises:
        ValueError: If a size that counts is not known.

    Example:
    >>> model = detach_auxiliary(GoogLeNet())
    >>> round(sum(multiply_adds(model).values()) / 1e9, 2)
    1.58
    """
    counts = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            for name, count in multiply_adds(layer).items():
                counts[f"{layer.name}/{name}"] = count
            continue
        used = _weights_used_at_each_position(layer)
        if not used:
            continue
        # a convolution's or dense layer's positions are its output's (its input's,
        # where it is transposed), a recurrent layer's the steps of its input
        over = layer.input if isinstance(layer, _OVER_INPUT) else layer.output
        over = keras.tree.flatten(over)[0]  # a mask or a state may come with it
        positions = over.shape[1:-1]
        if None in positions:
            raise ValueError(
                f"The multiply-adds of {layer.name!r} depend on the input's size, "
                f"which the model leaves open: {model.input_shape}. Build it for one."
            )
        counts[layer.name] = math.prod(positions) * used
    return counts


def multiply_adds_by_step(model: keras.Model, *tensors: keras.KerasTensor) -> list[int]:
    """Multiply-adds of each of `steps_to(*tensors)`, tensors of the model's graph."""
    costs = {}
    for name, count in multiply_adds(model).items():
        own = name.split("/")[0]  # a sub-model is one step
        costs[own] = costs.get(own, 0) + count
    return [costs.get(step.operation.name, 0) for step in steps_to(*tensors)]


def _weights_used_at_each_position(layer) -> int:
    """How many weights one position is multiplied by; 0 for what isn't counted."""
    if isinstance(layer, keras.layers.Bidirectional):
        both = (layer.forward_layer, layer.backward_layer)
        return sum(map(_weights_used_at_each_position, both))
    if isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    if isinstance(layer, keras.layers.RNN):
        layer = layer.cell
    kernels = (
        getattr(layer, name, None)
        for name in (
            "kernel",
            "recurrent_kernel",
            "depthwise_kernel",
            "pointwise_kernel",
        )
    )
    return sum(math.prod(kernel.shape) for kernel in kernels if kernel is not None)


_OVER_INPUT = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.RNN,
    keras.layers.Bidirectional,
)
