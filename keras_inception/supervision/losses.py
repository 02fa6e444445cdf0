"""Losses for every output of a model, and their weights."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_inception.layers import PACKAGE
from keras_inception.text import list_names


class StepVariables(keras.metrics.Metric):
    """Variables that a compiled training step reads or changes, beside the weights.

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


def with_every_class(arguments: dict[str, Any], classes: int) -> dict[str, Any]:
    """Adds the classes that `class_weight` leaves out, among `fit`'s arguments, as 1.

    Keras itself reads past the end of its table for classes above the last one named.
    Raises a ValueError for anything that is not the number of a class, and for weights
    that are negative or not finite.
    """
    class_weight, known = arguments.get("class_weight"), range(classes)
    if class_weight is None:
        return arguments
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            "class_weight is a dict from class number to weight, such as {0: 2.0}. "
            f"Received: {class_weight!r} of type {type(class_weight).__name__}"
        )
    if unknown := [c for c in class_weight if isinstance(c, str) or c not in known]:
        raise ValueError(
            f"class_weight names unknown classes: {list_names(unknown)}. The classes "
            f"are numbered 0 to {classes - 1}, in label order."
        )
    given = {int(number): weight for number, weight in class_weight.items()}
    whole = {n: checked_weight(f"class {n}", given.get(n, 1.0)) for n in known}
    return arguments | {"class_weight": whole}


def checked_weight(output: str, weight: Any) -> float:
    """Returns a loss weight as a float; raises a ValueError if it can't be one."""
    try:
        number = float(weight)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(
            f"The loss weight of {output!r} must be a finite number of at least 0. "
            f"Received: {weight!r}"
        )
    return number


def own_copy(loss_or_metric: Any) -> Any:
    """Copies a loss or metric for one more output, since each keeps its own state."""
    if isinstance(loss_or_metric, (keras.metrics.Metric, keras.losses.Loss)):
        return type(loss_or_metric).from_config(loss_or_metric.get_config())
    return copy.copy(loss_or_metric)


def from_logits(loss: Any) -> Any:
    """Replaces a crossentropy given by name by the one for logits."""
    if loss == "sparse_categorical_crossentropy":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if loss == "categorical_crossentropy":
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    if isinstance(loss, SmoothedCrossentropy):
        return SmoothedCrossentropy(loss.label_smoothing, from_logits=True)
    return loss
