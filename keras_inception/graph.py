"""A functional model's graph: its steps in order, its narrow points, its sub-models.

Only this file and `keras_behavior` use private names of Keras, or public ones whose
values Keras does not document (the paths of variables).
`tests/test_keras_internals.py` checks every assumption made there, so that a change in
Keras fails a test.
"""

import collections
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import keras
from keras.src.models.functional import Functional, operation_fn


class Step(Protocol):
    """One call of a layer, or of another operation: a node of Keras's graph."""

    operation: Any  # a keras.Operation
    arguments: Any
    input_tensors: Sequence[keras.KerasTensor]
    output_tensors: Sequence[keras.KerasTensor]
    is_input: bool


def layer_of(tensor: keras.KerasTensor) -> keras.Operation:
    """Returns the layer, or other operation, that produced a tensor of a graph."""
    return tensor._keras_history.operation


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Lists every layer of a model, including those in sub-models and wrappers."""
    return list(model._flatten_layers(include_self=False))


def has_batch_norm(model: keras.Model) -> bool:
    """Whether a model has batch normalization, in sub-models too."""
    norm = keras.layers.BatchNormalization
    return any(isinstance(layer, norm) for layer in all_layers(model))


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


def owners_of(variable: keras.Variable) -> list[str]:
    """Returns the names of a variable's layer and of those around it, inside out."""
    return variable.path.split("/")[-2::-1]


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
    not. Masks, whose type is bool, are ignored: they may bypass the tensor. Each tensor
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


@dataclasses.dataclass(frozen=True)
class Unfolded:
    """A model's graph with the steps of its sub-models in place of the sub-models.

    The steps of the sub-models are new calls of their layers, which keep their weights.
    A path is the names of the sub-models and of the layer: `"backbone/conv1"`.

    Attributes:
        steps: Every step except the inputs, with its path, in an order of execution.
        endpoints: Path to the output of an operation, or of a sub-model, that has a
            single one; for an operation that is called twice, that of the first call.
        outputs: The model's outputs.
    """

    steps: list[tuple[str, Step]]
    endpoints: dict[str, keras.KerasTensor]
    outputs: list[keras.KerasTensor]


def unfold(
    model: keras.Model,
    inputs: Sequence[keras.KerasTensor] | None = None,
    only: Collection[str] | None = None,
) -> Unfolded:
    """Calls the steps of a functional model's sub-models on the tensors around them.

    A sub-model whose class has a `call` of its own, and layers inside other layers,
    stay one step.

    Args:
        model: A functional model. A graph without sub-models is returned as it is.
        inputs: Tensors to call the model on, of the types of its own inputs; masks may
            follow. Defaults to its own inputs.
        only: Paths of the sub-models to unfold. Defaults to all.
    """
    found = Unfolded([], {}, [])
    made = _run(model, inputs or model.inputs, "", None, only, found)
    found.outputs.extend(made)
    return found


def _run(
    model: keras.Model,
    inputs: Sequence[keras.KerasTensor],
    prefix: str,
    training: bool | None,
    only: Collection[str] | None,
    found: Unfolded,
) -> list[keras.KerasTensor]:
    """Runs a model's steps on `inputs`, except those that nothing would change."""
    now = dict(zip(map(id, model.inputs), inputs, strict=False))
    for step in steps_to(*model.outputs):
        if step.is_input:
            continue
        path, operation = prefix + step.operation.name, step.operation
        old = step.input_tensors
        given = [now.get(id(tensor), tensor) for tensor in old]
        if (only is None or path in only) and runs_its_graph(step):
            own = step.arguments.kwargs.get("training")
            own = own if training is None else training
            inputs = as_inputs(given, operation)
            made = _run(operation, inputs, f"{path}/", own, only, found)
        else:
            made = list(step.output_tensors)
            same = all(one is other for one, other in zip(old, given, strict=True))
            if training is not None or not same:
                made = call_again(step, given, training)
            found.steps.append((path, step_of(made[0])))
        now.update(zip(map(id, step.output_tensors), made, strict=True))
        if len(made) == 1:
            found.endpoints.setdefault(path, made[0])
    return [now.get(id(tensor), tensor) for tensor in model.outputs]


def runs_its_graph(step: Step) -> bool:
    """Whether a step calls a model that does nothing but run its own graph."""
    model, kwargs = step.operation, step.arguments.kwargs
    if not isinstance(model, Functional | keras.Sequential) or (
        type(model).call not in (Functional.call, keras.Sequential.call)
        or not set(kwargs) <= {"training", "mask"}
        or len(step.arguments.args) != 1
    ):
        return False
    (given,), masks = step.arguments.args, keras.tree.flatten(kwargs.get("mask"))
    tensors = keras.tree.flatten(given)
    return (
        [len(tensor.shape) for tensor in tensors]
        == [len(tensor.shape) for tensor in model.inputs]
        and isinstance(given, dict) <= isinstance(model.input, dict)
        # no other masks than those that come with the tensors
        and all(
            mask is None or mask is mask_of(tensor)
            for mask, tensor in zip(masks, tensors, strict=False)
        )
    )


def as_inputs(
    tensors: Sequence[keras.KerasTensor], model: keras.Model
) -> list[keras.KerasTensor]:
    """Casts tensors to the types of a model's inputs, as calling the model does."""
    cast = []
    for tensor, expected in zip(tensors, model.inputs, strict=False):
        if tensor.dtype != expected.dtype:
            tensor = keras.ops.cast(tensor, expected.dtype)
            # A loaded model may already have an operation of the automatic name.
            layer_of(tensor).name = f"{model.name}_{layer_of(expected).name}_cast"
        cast.append(tensor)
    return cast


def call_again(
    step: Step, inputs: Sequence[keras.KerasTensor], training: bool | None = None
) -> list[keras.KerasTensor]:
    """Calls a step's operation on other tensors, as a functional model's `call` does.

    `training` is that of the model's call; the step's own applies if it is `None`.
    """
    tensors = dict(zip(map(id, step.input_tensors), inputs, strict=True))
    args, kwargs = step.arguments.fill_in(tensors)
    call = operation_fn(step.operation, training=training)
    return keras.tree.flatten(call(*args, **kwargs))
