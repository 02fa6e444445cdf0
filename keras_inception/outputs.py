"""The named outputs of a classifier: the `Output` layer, and questions about them."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_inception.graph import Step, step_of
from keras_inception.layers import PACKAGE

MAIN = "main"


@keras.saving.register_keras_serializable(PACKAGE)
class Output(keras.layers.Activation):
    """The last layer of a classifier; it has the name of its output (`main`, `aux_4a`).

    It computes in float32 under every dtype policy, since a softmax in float16 loses
    small probabilities. It stores the superclass of each class, in label order, or
    `None` if it predicts the classes, and may store the names of the classes: Keras
    clones layers with what they store, but not what a model stores.
    """

    def __init__(
        self,
        activation: str | None = "softmax",
        superclasses: Sequence[str | int] | None = None,
        class_names: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(activation, **{"dtype": "float32"} | kwargs)
        self.superclasses = None if superclasses is None else list(superclasses)
        self.class_names = None if class_names is None else list(class_names)

    @property
    def superclass_names(self) -> list[str | int] | None:
        """The superclasses in the order of this output's columns, or `None`."""
        return None if self.superclasses is None else sorted(set(self.superclasses))

    def own_labels(self, labels: Any) -> Any:
        """Converts class labels into labels for this output.

        Class indices `(batch,)` or `(batch, 1)` become superclass indices; one-hot
        labels, or any weights per class `(batch, classes)`, are summed by superclass.
        """
        if self.superclasses is None:
            return labels
        names = sorted(set(self.superclasses))
        index = np.array([names.index(name) for name in self.superclasses])
        if len(labels.shape) == 2 and labels.shape[1] == len(index):
            members = np.eye(len(names), dtype="float32")[index]
            return ops.matmul(ops.cast(labels, "float32"), members)
        return ops.take(index, ops.cast(labels, "int32"), axis=0)

    def get_config(self) -> dict:
        stored = {"superclasses": self.superclasses, "class_names": self.class_names}
        return super().get_config() | stored


def outputs_by_name(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns a model's outputs by name; a single one is `main`, whatever its name."""
    output = getattr(model, "output", None)  # a Sequential from a file has none
    if isinstance(output, dict):
        return output
    if len(model.outputs) == 1:
        return {MAIN: model.outputs[0]}
    return dict(zip(model.output_names, model.outputs, strict=True))


def main_output(model: keras.Model) -> keras.KerasTensor:
    """Returns a model's main output: the one called `main`, or the only one.

    Raises:
        ValueError: If there is none.
    """
    outputs = outputs_by_name(model)
    if MAIN not in outputs:
        raise ValueError(
            f"The model needs a single output, or one that is called {MAIN!r}. "
            f"Received the outputs: {', '.join(outputs)}"
        )
    return outputs[MAIN]


def main_of(outputs: Any) -> Any:
    """Returns the main output of `outputs`: a dict by name, or that output alone."""
    return outputs[MAIN] if isinstance(outputs, Mapping) else outputs


# Layers that pass values on unchanged in another form, and operations of `keras.ops`
# that do, which have no public class.
_PASSING_LAYERS = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Dropout,
)
_PASSING_OPERATIONS = ("Reshape", "Squeeze", "Cast")
_SOFTMAX_OPERATION = "Softmax"


def output_activation(tensor: keras.KerasTensor) -> str:
    """Returns `"softmax"` if a graph's tensor is probabilities, `"linear"` if logits.

    Any other activation is returned by its name. Operations that pass values on
    (reshaping, dropout, an `Activation("linear")`) are skipped. The result of an
    operation without an activation, such as a pool or a sum, counts as logits.
    """
    step = step_of(tensor)
    if isinstance(step.operation, keras.Model):
        return output_activation(_inside(step, tensor))
    if _is_softmax(step):
        return "softmax"
    if _passes_on(step):
        return output_activation(step.input_tensors[0])
    activation = getattr(step.operation, "activation", None)
    if activation is None or activation is keras.activations.linear:
        return "linear"
    return getattr(activation, "__name__", type(activation).__name__)


def logits_of(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the logits of a graph's tensor that is logits or their softmax.

    They come before the layer that computes the softmax. A layer that does more than
    that, such as `Dense(activation="softmax")`, is copied without the softmax, with its
    current weights. Operations that pass values on are left out, so the shape may
    differ; the classes keep their order.

    Raises:
        ValueError: If the tensor has another activation.
    """
    activation = output_activation(tensor)
    if activation == "linear":
        return tensor
    if activation != "softmax":
        raise ValueError(
            "Only softmax probabilities and logits are supported as outputs. Received "
            f"an output with the activation {activation!r}."
        )
    step = step_of(tensor)
    operation, inputs = step.operation, list(step.input_tensors)
    if isinstance(operation, keras.Model):
        inner = keras.Model(operation.inputs, logits_of(_inside(step, tensor)))
        return inner(inputs)
    if _passes_on(step):
        return logits_of(inputs[0])
    alone = (keras.layers.Activation, keras.layers.Softmax)
    if isinstance(operation, alone) or not isinstance(operation, keras.layers.Layer):
        return inputs[0]
    config = operation.get_config() | {"activation": "linear"}
    layer = type(operation).from_config(config)
    logits = layer(inputs[0])
    layer.set_weights(operation.get_weights())
    return logits


def _inside(step: Step, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """The tensor in a sub-model's own graph that its output `tensor` stands for."""
    index = [id(made) for made in step.output_tensors].index(id(tensor))
    return step.operation.outputs[index]


def _is_softmax(step: Step) -> bool:
    operation = step.operation
    if not isinstance(operation, keras.layers.Layer):
        return type(operation).__name__ == _SOFTMAX_OPERATION
    softmax = keras.activations.softmax
    is_layer = isinstance(operation, keras.layers.Softmax)
    return is_layer or getattr(operation, "activation", None) is softmax


def _passes_on(step: Step) -> bool:
    """Whether a step gives the values of its one input another form."""
    operation = step.operation
    if not isinstance(operation, keras.layers.Layer):
        passes = type(operation).__name__ in _PASSING_OPERATIONS
    elif isinstance(operation, keras.layers.Activation):
        passes = operation.activation is keras.activations.linear
    else:
        passes = isinstance(operation, _PASSING_LAYERS)
    return passes and len(step.input_tensors) == 1


def may_have_classes(model: keras.Model, class_names: Sequence[str] | None) -> bool:
    """Whether a model's classes may have these names: equal to its own, or unknown."""
    known = getattr(model, "class_names", None)
    return known is None or class_names is None or list(known) == list(class_names)
