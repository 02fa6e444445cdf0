"""How much gradient each stage gets, and from which loss."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled_function, gradients_of
from keras_inception.gradients.losses import (
    distillation_of,
    loss_weights_by_output,
    losses_by_output,
)
from keras_inception.stages import weights_by_stage

TOTAL = "total"

Labels = np.ndarray | Mapping[str, np.ndarray]


class GradientRow(NamedTuple):
    """The gradient that one loss sends to one stage.

    Attributes:
        stage: A stage's name, as in `weights_by_stage`.
        loss: `main`, a head's name, or `total`, their sum under the loss weights.
        norm: L2 norm of the mean loss's gradient over all of the stage's weights.
        relative_norm: `norm` divided by the L2 norm of those weights.
        zero_fraction: Fraction of the gradient's entries that are exactly zero.
        cosine_to_main: Cosine of the angle between this gradient and main's; `None`
            where one of the two is zero, as where a head does not reach the stage.
    """

    stage: str
    loss: str
    norm: float
    relative_norm: float
    zero_fraction: float
    cosine_to_main: float | None


def gradient_flow(
    model: keras.Model, images: np.ndarray, labels: Labels, training: bool = False
) -> list[GradientRow]:
    """Measures the gradient that every loss sends to every stage of a model.

    It takes one forward pass, and one backward pass for each output. The model does not
    change: neither weights nor batch statistics nor the state of dropout. Frozen layers
    and regularization are left out.

    Args:
        model: A functional classifier, with auxiliary heads or without. The losses and
            loss weights are those it was compiled with; crossentropy and 0.3 for each
            head if it is not compiled.
        images: A batch of the model's input.
        labels: Class indices `(batch,)` or one-hot `(batch, classes)`, for all outputs;
            or a dict by output, which several outputs need unless the model is
            `DeeplySupervised`.
        training: True: as in a training step, with dropout and the batch's own
            statistics; False (default): as at inference.

    Returns:
        A row for each stage and loss: stages in network order, and for each stage
        `main`, the heads in network order, `total`.

    Raises:
        ValueError: If the batch is empty, does not have one label for each picture, or
            the model has several outputs without names.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3)
    >>> rows = gradient_flow(model, np.zeros((2, 64, 64, 3)), np.array([0, 1]))
    >>> rows[0].stage, rows[0].loss, rows[-1].stage, rows[-1].loss
    ('conv1_7x7_s2', 'main', 'aux_4d', 'total')
    """
    return Probe(model, training)(images, labels)


class Probe:
    """`gradient_flow` for many measurements of one model, with the same errors.

    Args:
        model, training: As in `gradient_flow`.
        compiled: Whether to compile the measurement, which pays off from about the
            third call on. Defaults to False.
    """

    def __init__(
        self, model: keras.Model, training: bool = False, compiled: bool = False
    ):
        if not isinstance(model.output, dict) and len(model.outputs) > 1:
            raise ValueError(
                "gradient_flow names losses after outputs: a model with several must "
                f"return them as a dict. Received {len(model.outputs)} unnamed outputs."
            )
        self.model, self.training = model, training
        self.stages = weights_by_stage(model)
        self.losses = losses_by_output(model)
        self._distillation = distillation_of(model)
        position = {id(v): i for i, v in enumerate(model.trainable_variables)}
        self._positions_by_stage = {
            stage: [position[id(variable)] for variable in variables]
            for stage, variables in self.stages.items()
        }
        wrap = compiled_function if compiled else lambda function: function
        self._measure = wrap(self._compute_numbers)
        self._gradients = wrap(lambda *inputs: list(self._gradients_by_loss(*inputs)))

    def __call__(self, images: np.ndarray, labels: Labels) -> list[GradientRow]:
        """Measures one batch; see `gradient_flow`."""
        weights = list(loss_weights_by_output(self.model).values())
        inputs = self._inputs(images, labels)
        measured = self._measure(ops.convert_to_tensor(weights), *inputs)
        return self._rows(*map(ops.convert_to_numpy, measured))

    def gradients(
        self, images: np.ndarray, labels: Labels
    ) -> dict[tuple[str, str], np.ndarray]:
        """The gradients' entries, flat, by `(stage, loss)`, for histograms.

        Leaves out `total`, and stages that a loss does not reach.
        """
        gradients_by_loss = self._gradients(*self._inputs(images, labels))
        found = {}
        for loss, gradients in zip(self.losses, gradients_by_loss, strict=True):
            for stage, positions in self._positions_by_stage.items():
                parts = [ops.convert_to_numpy(gradients[i]).ravel() for i in positions]
                entries = np.concatenate(parts)
                if entries.any():
                    found[stage, loss] = entries
        return found

    def _inputs(self, images: np.ndarray, labels: Labels) -> tuple:
        """Trainable and other variables' values, images and labels, as tensors."""
        count = len(images)
        label_sets = labels.values() if isinstance(labels, Mapping) else [labels]
        counts = [len(one) for one in label_sets]
        if not count or set(counts) != {count}:
            received = ", ".join(map(str, counts)) or "no"
            raise ValueError(
                "gradient_flow needs at least one picture and a label for each. "
                f"Received {count} pictures and {received} labels."
            )
        # As in fit: pixels may be uint8.
        images = ops.cast(ops.convert_to_tensor(images), keras.config.floatx())
        if not isinstance(labels, Mapping):
            labels = ops.convert_to_tensor(labels)
        trainable = [v.value for v in self.model.trainable_variables]
        others = [v.value for v in self.model.non_trainable_variables]
        return trainable, others, images, labels

    def _compute_numbers(self, weights: Any, *inputs: Any) -> tuple[Any, Any]:
        """`_numbers` by loss (`total` last) and stage; the weights' square norms."""
        trainable = inputs[0]
        numbers: list = []
        main: list = []
        total: list = [0.0] * len(trainable)
        for index, gradients in enumerate(self._gradients_by_loss(*inputs)):
            main = main or gradients
            pairs = zip(total, gradients, strict=True)
            total = [so_far + weights[index] * gradient for so_far, gradient in pairs]
            numbers.append(self._sum_by_stage(map(_numbers, gradients, main)))
        numbers.append(self._sum_by_stage(map(_numbers, total, main)))
        squares = self._sum_by_stage(ops.sum(ops.square(value)) for value in trainable)
        return ops.stack(numbers), squares

    def _gradients_by_loss(
        self, trainable: list, others: list, images: Any, labels: Any
    ) -> Iterator[list]:
        """Each loss's gradients; zeros where it does not depend on a variable."""

        def losses_of(values: list) -> list:
            outputs, _ = self.model.stateless_call(
                values, others, images, training=self.training
            )
            losses = []
            for name, loss in self.losses.items():
                output = outputs[name] if isinstance(outputs, dict) else outputs
                by_output = isinstance(labels, dict)
                own = labels[name] if by_output else loss.own_labels(labels)
                examples = loss.function(own, output)
                if self._distillation and name in self._distillation.heads:
                    examples += self._distillation.loss(name, outputs)
                losses.append(ops.mean(examples))
            return losses

        for gradients in gradients_of(losses_of, trainable):
            yield [
                ops.zeros_like(value) if gradient is None else gradient
                for value, gradient in zip(trainable, gradients, strict=True)
            ]

    def _sum_by_stage(self, of_variables: Iterable) -> Any:
        values = list(of_variables)
        stages = self._positions_by_stage.values()
        return ops.stack([sum(values[i] for i in positions) for positions in stages])

    def _rows(self, numbers: np.ndarray, squares: np.ndarray) -> list[GradientRow]:
        rows = []
        for s, (stage, variables) in enumerate(self.stages.items()):
            entries = sum(np.prod(variable.shape) for variable in variables)
            weights_norm = max(np.sqrt(squares[s]), 1e-12)
            main_norm = np.sqrt(numbers[0, s, 0])
            for k, loss in enumerate([*self.losses, TOTAL]):
                square, zeros, product = numbers[k, s]
                norm = np.sqrt(square)
                both = norm > 0 and main_norm > 0
                cosine = float(product / norm / main_norm) if both else None
                ratios = float(norm / weights_norm), float(zeros / entries)
                rows.append(GradientRow(stage, loss, float(norm), *ratios, cosine))
        return rows


def _numbers(gradient: Any, main: Any) -> Any:
    """A gradient's square norm, count of zeros, and scalar product with main's."""
    square = ops.sum(ops.square(gradient))
    zeros = ops.sum(ops.cast(gradient == 0, square.dtype))
    return ops.stack([square, zeros, ops.sum(gradient * main)])
