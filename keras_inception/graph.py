"""A functional model's graph: its steps in order, where it narrows, what it costs.

The only file that uses Keras's private names, and the public ones whose values Keras
does not document (the paths of variables). `tests/test_keras_internals.py` holds Keras
to what is assumed here.
"""

import math

import keras


def layer_of(tensor: keras.KerasTensor) -> keras.Operation:
    """The layer, or other operation, that produced a tensor of a graph."""
    return tensor._keras_history.operation


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Every layer of a model, those inside sub-models and wrappers included."""
    return list(model._flatten_layers(include_self=False))


def mask_of(tensor: keras.KerasTensor) -> keras.KerasTensor | None:
    """The mask that travels with a tensor of a graph, or `None`."""
    return getattr(tensor, "_keras_mask", None)


def compile_arguments(model: keras.Model) -> dict:
    """The arguments that a compiled model was compiled with."""
    return dict(model._compile_config.config)


def owner_of(variable: keras.Variable) -> tuple[str, str]:
    """The layer and the weight that a variable is: `("conv1_7x7_s2", "kernel")`."""
    # some layers have the model's name in front
    *_, layer, weight = ("", *variable.path.split("/"))
    return layer, weight


def random_states(model: keras.Model) -> list[keras.Variable]:
    """The states of a model's random generators, which `save` leaves out."""
    return [v for v in model.variables if owner_of(v)[1] == "seed_generator_state"]


def is_distributed(model: keras.Model) -> bool:
    """Whether a model was made under a `tf.distribute` strategy (TensorFlow only)."""
    return model._distribute_strategy is not None


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


def narrow_endpoints(tensor: keras.KerasTensor) -> list[tuple[int, keras.KerasTensor]]:
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


def patch_multi_worker_trainer() -> None:
    """Makes Keras's `fit` work under `MultiWorkerMirroredStrategy` (keras#20585).

    Patches `reduce_per_replica`, which averages scalar logs over axis 0, and
    `_maybe_symbolic_build`, which treats a PerReplica batch as a tensor; for that
    strategy alone, in the whole process, once.
    """
    import tensorflow as tf
    from keras.src.backend.tensorflow import trainer

    if hasattr(trainer, "_patched_for_workers"):
        return
    trainer._patched_for_workers = True
    reduce_per_replica = trainer.reduce_per_replica
    maybe_symbolic_build = trainer.TensorFlowTrainer._maybe_symbolic_build

    def over_workers(strategy) -> bool:
        return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def reduce_scalars(values, strategy, reduction):
        # Keras asks for the mean over axis 0 of logs, which are scalars.
        if not over_workers(strategy) or reduction not in ("auto", "mean"):
            return reduce_per_replica(values, strategy, reduction)
        return keras.tree.map_structure(
            lambda value: strategy.reduce("MEAN", value, axis=None), values
        )

    def build_with_one_device(self, iterator=None, data_batch=None):
        # Keras asks for the mean of batches, of which only the shape is needed.
        strategy = self._distribute_strategy
        if not over_workers(strategy):
            return maybe_symbolic_build(self, iterator, data_batch)
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = tf.nest.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0],
                    next(batches),
                )
                break
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    trainer.reduce_per_replica = reduce_scalars
    trainer.TensorFlowTrainer._maybe_symbolic_build = build_with_one_device
