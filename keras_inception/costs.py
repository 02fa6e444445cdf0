"""The computation of a functional model, in multiply-adds."""

import collections
import math

import keras

from keras_inception.graph import Step, as_inputs, runs_its_graph, unfold


def multiply_adds(model: keras.Model) -> dict[str, int]:
    """Counts the multiply-adds of one example's forward pass, layer by layer.

    Convolutions (also depthwise, separable and transposed ones), dense and recurrent
    layers count, as is usual in the literature; additions, pools and normalizations do
    not.

    Returns:
        Layer name to multiply-adds, in network order, for the layers that have any; a
        layer in a sub-model by its path, `"backbone/conv1"`.

    Raises:
        ValueError: If a size that the count depends on is not fixed, or the model is
            not functional.

    Example:
    >>> model = detach_auxiliary(GoogLeNet())
    >>> round(sum(multiply_adds(model).values()) / 1e9, 2)
    1.58
    """
    if not getattr(model, "outputs", None):
        raise ValueError(
            f"The multiply-adds of {model.name!r} are unknown: it is not a functional "
            f"model, but a {type(model).__name__} without a graph."
        )
    counts: dict[str, int] = collections.Counter()
    for path, step in unfold(model).steps:
        if count := multiply_adds_of(step):
            counts[path] += count
    return dict(counts)


def multiply_adds_of(step: Step) -> int:
    """Counts the multiply-adds of a step; see `multiply_adds`."""
    layer = step.operation
    if isinstance(layer, keras.Model):
        if not runs_its_graph(step):
            return sum(multiply_adds(layer).values())
        inside = unfold(layer, as_inputs(step.input_tensors, layer))
        return sum(multiply_adds_of(one) for _, one in inside.steps)
    if not (used := _weights_used_at_each_position(layer)):
        return 0
    # The kernel is applied at each output position; at each input position in a
    # transposed convolution, at each input step in a recurrent layer.
    at_input = isinstance(layer, _OVER_INPUT)
    over = (step.input_tensors if at_input else step.output_tensors)[0]
    positions = over.shape[1:-1]
    if None in positions:
        raise ValueError(
            f"The multiply-adds of {layer.name!r} depend on the input size, which this "
            f"model leaves open: its maps are {tuple(over.shape)}. Build it with a "
            "fixed input size."
        )
    return math.prod(positions) * used


def _weights_used_at_each_position(layer: keras.layers.Layer) -> int:
    """Counts the weights that multiply one position; 0 for a layer that has none."""
    if isinstance(layer, keras.layers.Bidirectional):
        both = (layer.forward_layer, layer.backward_layer)
        return sum(map(_weights_used_at_each_position, both))
    if isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
    if isinstance(layer, keras.layers.RNN):
        layer = layer.cell
    names = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel")
    kernels = (getattr(layer, name, None) for name in names)
    return sum(math.prod(kernel.shape) for kernel in kernels if kernel is not None)


_OVER_INPUT = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.RNN,
    keras.layers.Bidirectional,
)
