"""Compiling and differentiating on each of Keras's backends."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras


def gradients_of(compute: Callable[[list], Any], trainable: list) -> Iterator[Sequence]:
    """Yields the gradients of each of the losses `compute(trainable)`, in their order.

    The gradient is `None` where a loss does not depend on a variable (on JAX: zeros).
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        values = [tf.convert_to_tensor(value) for value in trainable]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(values)
            losses = compute(values)
        for loss in losses:
            yield tape.gradient(loss, values)
    elif backend == "jax":
        import jax
        import jax.numpy as jnp

        losses, pull_back = jax.vjp(
            lambda values: jnp.stack(compute(values)), trainable
        )
        for row in jnp.eye(len(losses)):
            yield pull_back(row)[0]
    elif backend == "torch":
        import torch

        values = [value.detach().requires_grad_() for value in trainable]
        with torch.enable_grad():
            losses = compute(values)
        for loss in losses:
            yield torch.autograd.grad(
                loss, values, retain_graph=True, allow_unused=True
            )
    else:
        raise ValueError(
            "Gradients can be computed on the TensorFlow, JAX and PyTorch backends. "
            f"Keras runs on: {backend}"
        )


def compiled_function(function: Callable) -> Callable:
    """Compiles a function on TensorFlow and JAX; returns it as it is elsewhere."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True)
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function


def compiled(model: keras.Model) -> Callable[[list], list]:
    """Compiles a model's forward pass at inference, from a list of tensors to a list.

    TensorFlow traces it once for all batch sizes; JAX compiles it anew for each batch
    size; PyTorch runs it as it is. The weights are read at each call, so the result
    follows training.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        @jax.jit
        def forward(trainable, others, tensors):
            weights = trainable, others
            results, _ = model.stateless_call(*weights, tensors, training=False)
            return keras.tree.flatten(results)

        def with_weights(tensors: list) -> list:
            trainable = [variable.value for variable in model.trainable_variables]
            others = [variable.value for variable in model.non_trainable_variables]
            return forward(trainable, others, tensors)

        return with_weights

    def outputs(tensors: list) -> list:
        # Keras returns a list of one output as the output itself.
        return keras.tree.flatten(model(tensors, training=False))

    if backend == "tensorflow":
        import tensorflow as tf

        @functools.cache  # traced at the first call
        def traced() -> Callable[..., list]:
            signature = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
            function = tf.function(lambda *tensors: outputs(list(tensors)))
            return function.get_concrete_function(*signature)

        return lambda tensors: traced()(*tensors)
    if backend == "torch":
        import torch

        return torch.no_grad()(outputs)
    return outputs


def compiles_each_batch_size() -> bool:
    """Whether each new batch size costs a compilation, so that few should be used."""
    return keras.backend.backend() == "jax"
