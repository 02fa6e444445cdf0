"""Gradients of several losses from one forward pass, on each of Keras's backends."""

from collections.abc import Callable, Iterator

import keras


def gradients_of(compute: Callable, trainable: list) -> Iterator[list]:
    """The gradients of each of `compute(trainable)`'s losses, one after the other.

    `None` where a loss does not depend on a variable (on JAX: zeros).
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
        raise ValueError(f"gradient_flow knows no gradients on the {backend} backend.")


def compiled_function(function: Callable) -> Callable:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True)
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function
