"""How much gradient each stage gets, and from which loss."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled_function, gradients_of
from keras_inception.gradients.losses import loss_weights_by_output, losses_by_output
from keras_inception.gradients.stages import weights_by_stage
from keras_inception.outputs import MAIN

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
    """`gradient_flow` for many measurements of one model.

    Args:
        model: As in `gradient_flow`.
        training: As in `gradient_flow`.
        compiled: Whether to compile the measurement, which pays off from about the
            third call on. Defaults to False.

    Raises:
        ValueError: If the model has several outputs without names.
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
        position = {id(v): i for i, v in enumerate(model.trainable_variables)}
        self._positions_by_stage = {
            stage: [position[id(variable)] for variable in variables]
            for stage, variables in self.stages.items()
        }
        self._statistics = self._compute_statistics
        self._gradients = self._compute_gradients
        if compiled:
            self._statistics = compiled_function(self._statistics)
            self._gradients = compiled_function(self._gradients)

    def __call__(self, images: np.ndarray, labels: Labels) -> list[GradientRow]:
        """Measures one batch; see `gradient_flow`."""
        weights = ops.convert_to_tensor(
            list(loss_weights_by_output(self.model).values())
        )
        statistics = self._statistics(weights, *self._arguments(images, labels))
        return self._rows(*map(ops.convert_to_numpy, statistics))

    def gradients(
        self, images: np.ndarray, labels: Labels
    ) -> dict[tuple[str, str], np.ndarray]:
        """Computes the gradients themselves, for histograms.

        Returns:
            `(stage, loss)` to the gradient's entries, flat. It leaves out `total`, and
            stages that a loss does not reach.
        """
        gradients_by_loss = self._gradients(*self._arguments(images, labels))
        found = {}
        for loss, gradients in zip(self.losses, gradients_by_loss, strict=True):
            for stage, positions in self._positions_by_stage.items():
                parts = [ops.convert_to_numpy(gradients[i]).ravel() for i in positions]
                entries = np.concatenate(parts)
                if entries.any():
                    found[stage, loss] = entries
        return found

    def _arguments(self, images: np.ndarray, labels: Labels) -> tuple:
        """Trainable and other variables' values, images and labels, as tensors."""
        count = len(images)
        label_sets = labels.values() if isinstance(labels, Mapping) else [labels]
        counts = [len(one) for one in label_sets] or [0]
        if count == 0 or any(one != count for one in counts):
            received = counts if isinstance(labels, Mapping) else counts[0]
            raise ValueError(
                "gradient_flow needs at least one picture and a label for each. "
                f"Received {count} pictures and {received} labels."
            )
        # as fit does: pixels may be uint8
        images = ops.cast(ops.convert_to_tensor(images), keras.config.floatx())
        if not isinstance(labels, Mapping):
            labels = ops.convert_to_tensor(labels)
        trainable = [v.value for v in self.model.trainable_variables]
        others = [v.value for v in self.model.non_trainable_variables]
        return trainable, others, images, labels

    def _compute_gradients(
        self, trainable: list, others: list, images: Any, labels: Any
    ) -> list[list]:
        return list(self._gradients_of_losses(trainable, others, images, labels))

    def _compute_statistics(
        self, weights: Any, trainable: list, others: list, images: Any, labels: Any
    ) -> tuple[Any, Any]:
        """Numbers by loss (`total` last) and stage, and the weights' square norms.

        The numbers, `(losses, 3, stages)`, are a gradient's square norm, its count of
        zeros, and its scalar product with main's gradient.
        """
        numbers: list = []
        main: list = []
        total: list = [0.0] * len(trainable)
        gradients_by_loss = self._gradients_of_losses(trainable, others, images, labels)
        for index, gradients in enumerate(gradients_by_loss):
            main = main or gradients
            total = [
                so_far + weights[index] * gradient
                for so_far, gradient in zip(total, gradients, strict=True)
            ]
            numbers.append(self._numbers_by_stage(gradients, main))
        numbers.append(self._numbers_by_stage(total, main))
        squares = self._sum_by_stage(lambda i: ops.sum(ops.square(trainable[i])))
        return ops.stack(numbers), squares

    def _gradients_of_losses(
        self, trainable: list, others: list, images: Any, labels: Any
    ) -> Iterator[list]:
        """Each loss's gradients, zeros where it does not depend on a variable."""

        def losses_of(values: list) -> list:
            outputs, _ = self.model.stateless_call(
                values, others, images, training=self.training
            )
            if not isinstance(outputs, dict):
                outputs = {MAIN: outputs}
            return [
                loss.mean(
                    labels[name]
                    if isinstance(labels, dict)
                    else loss.own_labels(labels),
                    outputs[name],
                )
                for name, loss in self.losses.items()
            ]

        for gradients in gradients_of(losses_of, trainable):
            yield [
                ops.zeros_like(value) if gradient is None else gradient
                for value, gradient in zip(trainable, gradients, strict=True)
            ]

    def _numbers_by_stage(self, gradients: list, main: list) -> Any:
        return ops.stack(
            [
                self._sum_by_stage(lambda i: ops.sum(ops.square(gradients[i]))),
                self._sum_by_stage(
                    lambda i: ops.sum(ops.cast(gradients[i] == 0, "float32"))
                ),
                self._sum_by_stage(lambda i: ops.sum(gradients[i] * main[i])),
            ]
        )

    def _sum_by_stage(self, of_variable: Callable[[int], Any]) -> Any:
        """Sums a scalar of each variable, named by its position, over each stage."""
        sums = [
            sum(of_variable(i) for i in positions)
            for positions in self._positions_by_stage.values()
        ]
        return ops.stack([ops.cast(one, "float32") for one in sums])

    def _rows(self, numbers: np.ndarray, squares: np.ndarray) -> list[GradientRow]:
        rows = []
        for s, (stage, variables) in enumerate(self.stages.items()):
            entries = sum(np.prod(variable.shape) for variable in variables)
            weights_norm = max(np.sqrt(squares[s]), 1e-12)
            main_norm = np.sqrt(numbers[0, 0, s])
            for k, loss in enumerate([*self.losses, TOTAL]):
                square, zeros, product = numbers[k, :, s]
                norm = np.sqrt(square)
                reached = norm > 0 and main_norm > 0
                rows.append(
                    GradientRow(
                        stage=stage,
                        loss=loss,
                        norm=float(norm),
                        relative_norm=float(norm / weights_norm),
                        zero_fraction=float(zeros / entries),
                        cosine_to_main=float(product / norm / main_norm)
                        if reached
                        else None,
                    )
                )
        return rows
