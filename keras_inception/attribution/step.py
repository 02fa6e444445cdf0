"""A training step like Keras's that keeps the gradients of the losses apart.

The total loss depends on the weights through the outputs. If gradients pass through one
output alone, the derivative of the total is the part of that output's loss, its weight
and all sample weights included; these parts add up to the gradient.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_inception.attribution.ledger import PENALTY, Ledger
from keras_inception.supervision import DeeplySupervised

# By loss: the gradient for each trainable variable, `None` where it is zero.
Gradients = dict[str, Sequence]


def make_train_step(model: DeeplySupervised, ledger: Ledger) -> Callable:
    """Makes a replacement of `model.train_step` that records in the ledger."""
    if keras.backend.backend() != "jax":
        return lambda data: _step(model, ledger, data)

    def train_step(state: tuple, data: Any) -> tuple[dict, tuple]:
        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        mapping = [
            pair
            for variables, values in zip(groups, state, strict=True)
            for pair in zip(variables, values, strict=True)
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            logs = _step(model, ledger, data)
        return logs, tuple(
            [scope.get_current_value(variable) for variable in variables]
            for variables in groups
        )

    return train_step


def _step(model: DeeplySupervised, ledger: Ledger, data: Any) -> dict:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    outputs, updates, gradients = _split_gradients(model, x, y, sample_weight)
    loss = model.compute_loss(x, y, outputs, sample_weight, training=True)
    tracker = next(metric for metric in model.metrics if metric.name == "loss")
    tracker.update_state(loss, sample_weight=ops.shape(x)[0])
    for variable, value in zip(model.non_trainable_variables, updates, strict=True):
        variable.assign(value)
    variables = model.trainable_variables
    ledger.record(model.optimizer, variables, gradients)  # before the weights change
    total = [_sum(parts) for parts in zip(*gradients.values(), strict=True)]
    model.optimizer.apply(total, variables)
    return model.compute_metrics(x, y, outputs, sample_weight)


def _split_gradients(
    model: DeeplySupervised, x: Any, y: Any, sample_weight: Any
) -> tuple[dict, list, Gradients]:
    """The outputs, the new values of the other variables, and each loss's gradient."""
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    # A nested scope does not see the values of the outer one.
    metrics = [(variable, variable.value) for variable in model.metrics_variables]

    def forward(values: list) -> tuple[dict, list, Any]:
        outputs, updates, penalties = model.stateless_call(
            values, others, x, training=True, return_losses=True
        )
        return outputs, updates, sum(penalties) if penalties else None

    def total(outputs: dict, name: str) -> Any:
        """The total loss, with a gradient through the output `name` alone."""
        live = {n: o if n == name else ops.stop_gradient(o) for n, o in outputs.items()}
        with keras.StatelessScope(state_mapping=metrics):
            return model.compute_loss(x, y, live, sample_weight, training=True)

    differentiate = _tensorflow if keras.backend.backend() == "tensorflow" else _jax
    return differentiate(forward, total, trainable)


def _tensorflow(forward: Callable, total: Callable, trainable: list) -> tuple:
    import tensorflow as tf

    values = list(map(tf.convert_to_tensor, trainable))
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(values)
        outputs, updates, penalty = forward(values)
        losses = {name: total(outputs, name) for name in outputs}
    if penalty is not None:
        losses[PENALTY] = penalty
    gradients = {name: tape.gradient(loss, values) for name, loss in losses.items()}
    return outputs, updates, gradients


def _jax(forward: Callable, total: Callable, trainable: list) -> tuple:
    import jax

    def loss_of(name: str, values: list) -> Any:
        if name == PENALTY:
            return forward(values)[2]
        return total(forward(values)[0], name)

    # XLA computes the forward pass, which all of these have in common, once.
    outputs, updates, penalty = forward(trainable)
    names = [*outputs, *([] if penalty is None else [PENALTY])]
    losses = {name: functools.partial(loss_of, name) for name in names}
    gradients = {name: jax.grad(loss)(trainable) for name, loss in losses.items()}
    return outputs, updates, gradients


def _sum(parts: Sequence) -> Any:
    present = [part for part in parts if part is not None]
    return sum(present[1:], present[0]) if present else None
