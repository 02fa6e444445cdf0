"""A functional model's graph: its steps in order, its narrow points, its cost.

Only this file and `keras_behavior` use private names of Keras, or public ones whose
values Keras does not document (the paths of variables).
`tests/test_keras_internals.py` checks every assumption made there, so that a change in
Keras fails a test.
"""

import collections
import math
from collections.abc import Sequence
from typing import Protocol

import keras


class Step(Protocol):
    """One call of a layer, or of another operation: a node of Keras's graph."""

    operation: keras.Operation
    input_tensors: Sequence[keras.KerasTensor]
    output_tensors: Sequence[keras.KerasTensor]
    is_input: bool


def layer_of(tensor: keras.KerasTensor) -> keras.Operation:
    """Returns the layer, or other operation, that produced a tensor of a graph."""
    return tensor._keras_history.operation


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Lists every layer of a model, including those in sub-models and wrappers."""
    return list(model._flatten_layers(include_self=False))


def mask_of(tensor: keras.KerasTensor) -> keras.KerasTensor | None:
    """Returns the mask that Keras keeps beside a tensor of a graph, or `None`."""
    return getattr(tensor, "_keras_mask", None)


def compile_arguments(model: keras.Model) -> dict:
    """Returns the arguments that a compiled model was compiled with, by name."""
    return dict(model._compile_config.config)


def optimized_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Lists the variables that an optimizer was built for, in its order."""
    return list(optimizer._trainable_variables)


def decays_weight(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> bool:
    """Whether an optimizer's own `weight_decay` applies to a variable."""
    return bool(optimizer.weight_decay) and optimizer._use_weight_decay(variable)


def owner_of(variable: keras.Variable) -> tuple[str, str]:
    """Returns a variable's layer and role: `("conv1_7x7_s2", "kernel")`."""
    # Keras puts the model's name before the layer's in some paths only.
    layer, _, weight = variable.path.rpartition("/")
    return layer.rpartition("/")[2], weight


def random_states(model: keras.Model) -> list[keras.Variable]:
    """Lists the states of a model's random generators, which `save` leaves out."""
    return [v for v in model.variables if owner_of(v)[1] == "seed_generator_state"]


def is_distributed(model: keras.Model) -> bool:
    """Whether a model was made for several devices, by TensorFlow or by Keras."""
    strategy = getattr(model, "_distribute_strategy", None)
    return strategy is not None or keras.distribution.distribution() is not None


def steps_to(*tensors: keras.KerasTensor) -> list[Step]:
    """Lists every step that these tensors depend on, in an order of execution.

    A layer that is called twice makes two steps.
    """
    order, seen = [], set()
    waiting = [(step_of(tensor), False) for tensor in reversed(tensors)]
    while waiting:
        step, needs_done = waiting.pop()
        if needs_done:
            order.append(step)
        elif id(step) not in seen:
            seen.add(id(step))
            waiting.append((step, True))
            needed = [step_of(tensor) for tensor in step.input_tensors]
            waiting.extend((one, False) for one in reversed(needed))
    return order


def step_of(tensor: keras.KerasTensor) -> Step:
    """Returns the step that made a tensor."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def narrow_endpoints(tensor: keras.KerasTensor) -> list[tuple[int, keras.KerasTensor]]:
    """Lists the tensors that every path from the inputs to `tensor` passes through.

    The sum that ends a residual block is one; tensors inside the block's branches are
    not. Masks, whose type is bool, are ignored: they may pass beside it. Each tensor
    comes with the index of its step in `steps_to(tensor)`.
    """
    steps = steps_to(tensor)
    uses = collections.Counter(
        id(needed) for step in steps for needed in _features(step.input_tensors)
    )
    endpoints = []
    alive: set[int] = set()  # tensors that were made and are still needed
    inputs_ahead = sum(step.is_input for step in steps)
    for index, step in enumerate(steps):
        inputs_ahead -= step.is_input
        for needed in _features(step.input_tensors):
            uses[id(needed)] -= 1
            if not uses[id(needed)]:
                alive.discard(id(needed))
        alive.update(id(made) for made in step.output_tensors if id(made) in uses)
        if inputs_ahead == 0 and len(alive) == 1 and len(step.output_tensors) == 1:
            (only,) = step.output_tensors
            if id(only) in alive:
                endpoints.append((index, only))
    return endpoints


def _features(tensors: Sequence[keras.KerasTensor]) -> list[keras.KerasTensor]:
    return [tensor for tensor in tensors if tensor.dtype != "bool"]


def multiply_adds(model: keras.Model) -> dict[str, int]:
    """Counts the multiply-adds of one example's forward pass, layer by layer.

    Convolutions (also depthwise, separable and transposed ones), dense and recurrent
    layers count, as is usual in the literature; additions, pools and normalizations do
    not.

    Returns:
        Layer name to multiply-adds, in network order, for the layers that have any.

    Raises:
        ValueError: If a size that the count depends on is not fixed.

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
        if not (used := _weights_used_at_each_position(layer)):
            continue
        # The kernel is applied at each output position; at each input position in a
        # transposed convolution, at each input step in a recurrent layer.
        over = layer.input if isinstance(layer, _OVER_INPUT) else layer.output
        over = keras.tree.flatten(over)[0]  # a mask or a state may follow
        positions = over.shape[1:-1]
        if None in positions:
            raise ValueError(
                f"The multiply-adds of {layer.name!r} depend on the input size, which "
                f"this model leaves open: {model.input_shape}. Build it with a fixed "
                "input size."
            )
        counts[layer.name] = math.prod(positions) * used
    return counts


def multiply_adds_by_step(model: keras.Model, *tensors: keras.KerasTensor) -> list[int]:
    """Counts the multiply-adds of each of `steps_to(*tensors)` in `model`'s graph."""
    costs: dict[str, int] = collections.Counter()
    for name, count in multiply_adds(model).items():
        costs[name.split("/")[0]] += count  # a sub-model is one step
    return [costs[step.operation.name] for step in steps_to(*tensors)]


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
