"""A functional model's graph: its steps in order, and the places where it narrows."""

import keras


def steps_to(*tensors: keras.KerasTensor) -> list:
    """Every call of a layer that these tensors depend on, each after what it needs.

    A step is one of Keras's graph nodes: it has an `operation` (the layer, or another
    operation), `input_tensors` and `output_tensors`, and is an `is_input` or not. A
    layer that is called twice makes two steps.
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


def step_of(tensor: keras.KerasTensor):
    """The call of a layer that made a tensor."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def narrow_places(tensor: keras.KerasTensor) -> list[tuple[int, keras.KerasTensor]]:
    """The tensors through which everything passes on its way to `tensor`.

    The sum at a residual block's end is one; what goes through the block's branches is
    not. Masks, which are of type bool, may pass beside it.

    Returns:
        `(index, tensor)` pairs in network order: the place is the one output of step
        `index` of `steps_to(tensor)`.
    """
    steps = steps_to(tensor)
    uses = {}
    for step in steps:
        for needed in _features(step.input_tensors):
            uses[id(needed)] = uses.get(id(needed), 0) + 1
    places, alive = [], set()  # alive: made already, and needed later
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
                places.append((index, only))
    return places


def _features(tensors: list) -> list:
    return [tensor for tensor in tensors if tensor.dtype != "bool"]
