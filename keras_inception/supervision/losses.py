"""The losses of a training step: their weights, smoothed labels, and distillation."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_inception.graph import layer_of
from keras_inception.layers import PACKAGE
from keras_inception.outputs import MAIN, output_activation
from keras_inception.supervision.arguments import checked_weight


class StepVariables(keras.metrics.Metric):
    """Variables that a compiled training step reads or changes, besides the weights.

    It is a metric only in form. Keras carries the variables of metrics through a
    compiled training step on every backend (JAX compiles other variables in as
    constants), and counts them neither as parameters nor as weights to save. The
    result is empty, so nothing appears in the logs.
    """

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        pass

    def reset_state(self) -> None:
        pass

    def result(self) -> dict:
        return {}

    def save_own_variables(self, store: Any) -> None:
        pass

    def load_own_variables(self, store: Any) -> None:
        pass


@keras.saving.register_keras_serializable(PACKAGE)
class LossWeights(StepVariables):
    """Holds the heads' loss weights as variables that a callback can change.

    They are saved as numbers, in the compile configuration. `names` are the heads'
    outputs.
    """

    def __init__(self, names: Sequence[str], name: str = "loss_weights", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        # By default tf.distribute would sum the variables of a metric over devices,
        # and each device would see a part of the weight.
        first = {"aggregation": "only_first_replica"}
        self.by_output = {
            output: self.add_variable((), "ones", name=f"{output}_loss_weight", **first)
            for output in names
        }


@keras.saving.register_keras_serializable(PACKAGE)
class SmoothedCrossentropy(keras.losses.Loss):
    """Crossentropy with label smoothing, which Keras has for one-hot labels only.

    Labels are class indices `(batch,)` or weights of the classes `(batch, classes)`.

    Args:
        label_smoothing: The part of each label that all classes share equally, 0..1.
        from_logits: Whether the output is logits. Defaults to False: probabilities.
    """

    def __init__(
        self, label_smoothing: float, from_logits: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.label_smoothing, self.from_logits = label_smoothing, from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        classes = y_pred.shape[-1]
        if len(y_true.shape) < 2 or y_true.shape[1] != classes:
            indices = ops.reshape(ops.cast(y_true, "int32"), (-1,))
            y_true = ops.one_hot(indices, classes, dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            y_true, y_pred, self.from_logits, self.label_smoothing
        )

    def get_config(self) -> dict:
        return super().get_config() | {
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
        }


class MeanOfLosses(keras.losses.Loss):
    """The mean of given losses as Keras computes it, with several devices too."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


class Distillation:
    """Losses by which heads learn main's answers besides the labels.

    Each head's is `weight` times the squared temperature times the divergence
    KL(main || head), with the logits of both divided by the temperature (Hinton et al.,
    arXiv 1503.02531). The gradient does not reach main's logits: main teaches, and
    learns from the labels alone. Heads that learn from the deepest classifier while all
    of them train are the idea of "Be Your Own Teacher" (Zhang et al., arXiv
    1905.08094). Heads of superclasses have other classes than main, and learn from
    labels alone.

    Args:
        outputs: The model's, by name.
        weight: Relative to the head's loss on the labels; at least 0.
        temperature: Above 0; from about 2 on, the less likely classes count as well.
    """

    def __init__(
        self,
        outputs: Mapping[str, keras.KerasTensor],
        weight: float,
        temperature: float,
    ):
        self.weight = checked_weight("distillation", weight)
        if not 0 < temperature < float("inf"):
            raise ValueError(
                f"temperature must be finite and above 0. Received: {temperature!r}"
            )
        self.temperature = float(temperature)
        self._mean = MeanOfLosses()
        self._is_logits = {
            name: output_activation(tensor) == "linear"
            for name, tensor in outputs.items()
        }
        self.heads = [
            name
            for name, tensor in outputs.items()
            if name != MAIN and getattr(layer_of(tensor), "superclasses", None) is None
        ]
        if self.weight and not self.heads:
            raise ValueError(
                "distillation needs a head that predicts main's classes; this model "
                "has none. Leave distillation out, or add a head without superclasses."
            )

    def total(
        self,
        outputs: Mapping[str, Any],
        weights: Mapping[str, Any],
        sample_weight: Mapping[str, Any],
    ) -> Any:
        """The sum over the heads of their mean losses times their loss weights."""
        return sum(
            weights[head]
            * self._mean(
                outputs[head], self.loss(head, outputs), sample_weight.get(head)
            )
            for head in self.heads
        )

    def loss(self, head: str, outputs: Mapping[str, Any]) -> Any:
        """A head's loss for each example, `(batch,)`."""
        teacher = self._log_probabilities(MAIN, ops.stop_gradient(outputs[MAIN]))
        student = self._log_probabilities(head, outputs[head])
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        return self.weight * self.temperature**2 * divergence

    def _log_probabilities(self, name: str, output: Any) -> Any:
        if not self._is_logits[name]:
            output = ops.log(ops.maximum(output, keras.config.epsilon()))
        return ops.log_softmax(output / self.temperature)


def from_logits(loss: Any) -> Any:
    """Replaces a crossentropy given by name, or smoothed, by the one for logits."""
    if loss == "sparse_categorical_crossentropy":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if loss == "categorical_crossentropy":
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    if isinstance(loss, SmoothedCrossentropy):
        return type(loss).from_config(loss.get_config() | {"from_logits": True})
    return loss
