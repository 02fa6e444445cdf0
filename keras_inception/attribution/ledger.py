"""`Ledger`: how far each loss has moved every weight so far."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_inception.gradients import weights_by_stage
from keras_inception.graph import decays_weight
from keras_inception.layers import PACKAGE
from keras_inception.optimizers import LayerwiseSGD
from keras_inception.outputs import MAIN
from keras_inception.supervision import DeeplySupervised
from keras_inception.supervision.losses import StepVariables

PENALTY = "weight_decay"  # treated like a loss


@keras.saving.register_keras_serializable(PACKAGE)
class Ledger(StepVariables):
    """The displacement and velocity of every variable, by the loss they are due to.

    Each loss keeps a copy of the optimizer's arithmetic, which is linear, for the
    variables that its output depends on.

    It belongs to a training, so it is not saved with the model.

    Args:
        model: A compiled model whose optimizer is SGD or `LayerwiseSGD`.

    Attributes:
        losses: `main`, the heads, and `weight_decay` if there is any.
        stages: The positions of each stage's variables among the trainable ones.
        moved: By loss and position: displacement since the beginning.
        velocity: Likewise; empty without momentum.
        paths: The length of each stage's path by loss, `(losses, stages)`.
    """

    def __init__(self, model: DeeplySupervised):
        super().__init__(name="attribution")
        variables, optimizer = model.trainable_variables, model.optimizer
        position = {id(variable): index for index, variable in enumerate(variables)}
        reached = {
            name: keras.Model(model.inputs, output).trainable_variables
            for name, output in sorted(
                model.output.items(), key=lambda item: item[0] != MAIN
            )
        }
        if has_penalty(model):
            reached[PENALTY] = variables
        self.losses = list(reached)
        self.stages = {
            stage: [position[id(variable)] for variable in of_stage]
            for stage, of_stage in weights_by_stage(model).items()
        }

        def zeros(role: str) -> dict[str, dict[int, keras.Variable]]:
            return {
                loss: {
                    position[id(v)]: self.add_variable(
                        v.shape, "zeros", name=f"{role}_{loss}_{position[id(v)]}"
                    )
                    for v in of_loss
                }
                for loss, of_loss in reached.items()
            }

        self.moved = zeros("moved")
        self.velocity = zeros("velocity") if optimizer.momentum else {}
        shape = len(self.losses), len(self.stages)
        self.paths = self.add_variable(shape, "zeros", name="paths")

    def record(
        self,
        optimizer: keras.optimizers.SGD,
        variables: Sequence[keras.Variable],
        gradients: Mapping[str, Sequence],
    ) -> None:
        """Adds the step that the optimizer is about to make.

        `gradients` are those of each loss, with its weight, for all variables; `None`
        where there is none.
        """
        rate = ops.cast(optimizer.learning_rate, "float32")
        parts = _scaled(optimizer, variables, gradients)
        parts = _clipped(optimizer, parts)
        lengths = []
        for loss in self.losses:
            steps = {}
            for index, moved in self.moved[loss].items():
                part = parts[loss].get(index)
                pull = ops.zeros(moved.shape) if part is None else -rate * part
                step = pull
                if self.velocity:
                    velocity = self.velocity[loss][index]
                    velocity.assign(optimizer.momentum * velocity + pull)
                    step = velocity.value
                    if optimizer.nesterov:
                        step = optimizer.momentum * velocity + pull
                if loss == PENALTY and decays_weight(optimizer, variables[index]):
                    decay = optimizer.weight_decay * variables[index].value
                    step = step - rate * decay
                moved.assign_add(step)
                steps[index] = ops.sum(ops.square(step))
            lengths.append(
                ops.stack(
                    [
                        ops.sqrt(sum((steps[i] for i in of_stage if i in steps), 0.0))
                        for of_stage in self.stages.values()
                    ]
                )
            )
        self.paths.assign_add(ops.stack(lengths))


def has_penalty(model: DeeplySupervised) -> bool:
    """Whether something besides the losses moves the weights: a decay or penalty."""
    optimizer = model.optimizer
    decay = optimizer.weight_decay or getattr(optimizer, "kernel_decay", 0)
    return bool(decay or model.losses)


def _scaled(
    optimizer: keras.optimizers.SGD,
    variables: Sequence[keras.Variable],
    gradients: Mapping[str, Sequence],
) -> dict[str, dict[int, Any]]:
    """The part of each loss in the gradient that the optimizer applies."""
    parts: dict[str, dict[int, Any]] = {
        loss: {i: g for i, g in enumerate(of_loss) if g is not None}
        for loss, of_loss in gradients.items()
    }
    parts.setdefault(PENALTY, {})
    if not isinstance(optimizer, LayerwiseSGD):
        return parts
    for index, variable in enumerate(variables):
        if decay := optimizer.decay_of(variable):
            earlier = parts[PENALTY].get(index, 0.0)
            parts[PENALTY][index] = earlier + decay * variable.value
        factor = optimizer.factor_of(variable)
        for of_loss in parts.values():
            if factor != 1 and index in of_loss:
                of_loss[index] = factor * of_loss[index]
    return parts


def _clipped(
    optimizer: keras.optimizers.SGD, parts: dict[str, dict[int, Any]]
) -> dict[str, dict[int, Any]]:
    """The parts, shrunk as Keras shrinks their sum."""
    if not (optimizer.clipnorm or optimizer.global_clipnorm):
        return parts
    squares: dict[int, Any] = {}
    for index in set().union(*parts.values()):
        total = sum(of_loss[index] for of_loss in parts.values() if index in of_loss)
        squares[index] = ops.sum(ops.square(total))
    if optimizer.clipnorm:
        scales = {i: _shrinking(x, optimizer.clipnorm) for i, x in squares.items()}
    else:
        square = sum(squares.values())
        scales = dict.fromkeys(squares, _shrinking(square, optimizer.global_clipnorm))
    return {
        loss: {index: scales[index] * part for index, part in of_loss.items()}
        for loss, of_loss in parts.items()
    }


def _shrinking(square: Any, limit: float) -> Any:
    return limit / ops.maximum(ops.sqrt(square), limit)
