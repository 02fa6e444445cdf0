"""How much gradient each stage gets, and from which loss."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled_function, gradients_of
from keras_inception.gradients.losses import losses_by_output
from keras_inception.gradients.stages import weights_by_stage
from keras_inception.graph import compile_arguments
from keras_inception.outputs import MAIN
from keras_inception.supervision import AUXILIARY_WEIGHT, DeeplySupervised

TOTAL = "total"


class GradientRow(NamedTuple):
    """What one loss sends to one stage.

    Attributes:
        stage: A stage's name, as `weights_by_stage` gives it.
        loss: `main`, a head's name, or `total`, their sum under the loss weights.
        norm: L2 norm of the mean loss's gradient over all of the stage's weights.
        relative_norm: `norm` over the L2 norm of those weights.
        zero_fraction: Share of the gradient's entries that are exactly zero.
        cosine_to_main: Cosine of the angle between this gradient and main's; `None`
            where either does not reach the stage, or is zero there.
    """

    stage: str
    loss: str
    norm: float
    relative_norm: float
    zero_fraction: float
    cosine_to_main: float | None


def gradient_flow(
    model: keras.Model, images, labels, training: bool = False
) -> list[GradientRow]:
    """Measures the gradient that every loss sends to every stage of a model.

    One forward pass, and one backward pass per output. Nothing of the model changes:
    neither weights nor batch statistics nor the state of dropout. Frozen layers and
    regularisation are left out.

    Args:
        model: A functional classifier, with auxiliary heads or without. If it is
            compiled, its losses and loss weights count; else crossentropy and 0.3 per
            head.
        images: A batch of what the model takes.
        labels: Class indices `(batch,)` or one-hot `(batch, classes)`; for a
            `DeeplySupervised` model once for all outputs, else also a dict by output.
        training: True: as in a training step, with dropout and the batch's own
            statistics; False (default): as at inference.

    Returns:
        A row for each stage and loss, stages in network order, and for each stage
        `main`, the heads in network order, `total`.

    Raises:
        ValueError: If the batch is empty, has not one label per picture, or the model's
            outputs have no names.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3)
    >>> rows = gradient_flow(model, np.zeros((2, 64, 64, 3)), np.array([0, 1]))
    >>> rows[0].stage, rows[0].loss, rows[-1].stage, rows[-1].loss
    ('conv1_7x7_s2', 'main', 'aux_4d', 'total')
    """
    return Probe(model, training)(images, labels)


class Probe:
    """`gradient_flow` to be called many times on one model: it is traced once.

    Args:
        model: As `gradient_flow`.
        training: As `gradient_flow`.
        compiled: Whether to compile the measurement, which pays from about the third
            call on. Defaults to False.
    """

    def __init__(
        self, model: keras.Model, training: bool = False, compiled: bool = False
    ):
        if not isinstance(model.output, dict) and len(model.outputs) > 1:
            raise ValueError(
                "gradient_flow names losses after outputs: a model with several needs "
                f"a dict of them. Received {len(model.outputs)} unnamed outputs."
            )
        self.model, self.training = model, training
        self.stages = weights_by_stage(model)
        self.losses = losses_by_output(model)
        order = {id(v): i for i, v in enumerate(model.trainable_variables)}
        self._members = {
            stage: [order[id(variable)] for variable in variables]
            for stage, variables in self.stages.items()
        }
        self._measure, self._gradients = self._statistics, self._every_gradient
        if compiled:
            self._measure = compiled_function(self._measure)
            self._gradients = compiled_function(self._gradients)

    def __call__(self, images, labels) -> list[GradientRow]:
        """Measures one batch; see `gradient_flow`."""
        measured = self._measure(*self._arguments(images, labels))
        return self._rows(*(ops.convert_to_numpy(part) for part in measured))

    def gradients(self, images, labels) -> dict[tuple[str, str], np.ndarray]:
        """The gradients themselves, for histograms.

        Returns:
            `(stage, loss)` to the gradient's entries, flat; `total` is left out, and so
            are stages that a loss does not reach.
        """
        by_loss = self._gradients(*self._arguments(images, labels))
        found = {}
        for loss, gradients in zip(self.losses, by_loss, strict=True):
            for stage, members in self._members.items():
                parts = [gradients[i] for i in members if gradients[i] is not None]
                flat = [ops.convert_to_numpy(part).ravel() for part in parts]
                if any(part.any() for part in flat):
                    found[stage, loss] = np.concatenate(flat)
        return found

    def _arguments(self, images, labels) -> tuple:
        count = len(images)
        sizes = [len(v) for v in labels.values()] if isinstance(labels, dict) else []
        if count == 0 or any(size != count for size in sizes or [len(labels)]):
            raise ValueError(
                "gradient_flow needs at least one picture and a label for each. "
                f"Received {count} pictures and {sizes or len(labels)} labels."
            )
        # as fit does: pixels may come as bytes
        images = ops.cast(ops.convert_to_tensor(images), keras.config.floatx())
        if not isinstance(labels, dict):
            labels = ops.convert_to_tensor(labels)
        weights = ops.convert_to_tensor(list(self.weights_in_force().values()))
        trainable = [v.value for v in self.model.trainable_variables]
        others = [v.value for v in self.model.non_trainable_variables]
        return trainable, others, images, labels, weights

    def weights_in_force(self) -> dict[str, float]:
        """Each output's part in the total loss, now."""
        if not self.model.compiled:
            return {
                name: 1.0 if name == MAIN else AUXILIARY_WEIGHT for name in self.losses
            }
        weights = dict.fromkeys(self.losses, 1.0)  # Keras's, where none are given
        given = compile_arguments(self.model).get("loss_weights")
        if isinstance(given, (list, tuple)):  # Keras takes the outputs by name
            given = dict(zip(sorted(self.losses), given, strict=True))
        if isinstance(given, dict):
            weights |= {
                name: float(ops.convert_to_numpy(w)) for name, w in given.items()
            }
        if isinstance(self.model, DeeplySupervised):
            heads = self.model.auxiliary_weights.items()
            weights |= {head: float(ops.convert_to_numpy(w)) for head, w in heads}
        return weights

    def _statistics(self, trainable, others, images, labels, weights):
        """Square norms, zeros and products with main by loss and stage; weights'."""
        compute = functools.partial(self._compute_losses, others, images, labels)
        main, total = None, [0.0] * len(trainable)
        squares, zeros, products = [], [], []
        for index, gradients in enumerate(gradients_of(compute, trainable)):
            main = gradients if index == 0 else main
            total = [
                so_far if g is None else so_far + weights[index] * g
                for so_far, g in zip(total, gradients, strict=True)
            ]
            self._append(gradients, main, squares, zeros, products)
        reached = [None if isinstance(g, float) else g for g in total]
        self._append(reached, main, squares, zeros, products)
        sizes = self._by_stage(lambda i: ops.sum(ops.square(trainable[i])))
        return ops.stack(squares), ops.stack(zeros), ops.stack(products), sizes

    def _every_gradient(self, trainable, others, images, labels, weights) -> list:
        compute = functools.partial(self._compute_losses, others, images, labels)
        return list(gradients_of(compute, trainable))

    def _append(self, gradients, main, squares, zeros, products):
        def zero_count(i):
            if gradients[i] is None:
                return float(np.prod(self.model.trainable_variables[i].shape))
            return ops.sum(ops.cast(gradients[i] == 0, "float32"))

        def square(i):
            return 0.0 if gradients[i] is None else ops.sum(ops.square(gradients[i]))

        def product(i):
            missing = gradients[i] is None or main[i] is None
            return 0.0 if missing else ops.sum(gradients[i] * main[i])

        squares.append(self._by_stage(square))
        zeros.append(self._by_stage(zero_count))
        products.append(self._by_stage(product))

    def _by_stage(self, of_variable: Callable):
        return ops.stack(
            [
                ops.convert_to_tensor(sum(of_variable(i) for i in members), "float32")
                for members in self._members.values()
            ]
        )

    def _compute_losses(self, others, images, labels, trainable) -> list:
        outputs, _ = self.model.stateless_call(
            trainable, others, images, training=self.training
        )
        if not isinstance(outputs, dict):
            outputs = {MAIN: outputs}
        losses = []
        for name, (loss, own_labels) in self.losses.items():
            own = labels[name] if isinstance(labels, dict) else own_labels(labels)
            losses.append(ops.mean(loss(own, outputs[name])))
        return losses

    def _rows(self, squares, zeros, products, sizes) -> list[GradientRow]:
        rows = []
        for s, (stage, variables) in enumerate(self.stages.items()):
            entries = sum(np.prod(variable.shape) for variable in variables)
            for k, loss in enumerate([*self.losses, TOTAL]):
                norm, main_norm = np.sqrt(squares[k, s]), np.sqrt(squares[0, s])
                cosine = None
                if norm > 0 and main_norm > 0:
                    cosine = float(products[k, s] / norm / main_norm)
                rows.append(
                    GradientRow(
                        stage,
                        loss,
                        float(norm),
                        float(norm / max(np.sqrt(sizes[s]), 1e-12)),
                        float(zeros[k, s] / entries),
                        cosine,
                    )
                )
        return rows
