"""The named outputs of a classifier: the `Output` layer, and reading what is there."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from keras_inception.graph import layer_of
from keras_inception.layers import PACKAGE

MAIN = "main"


@keras.saving.register_keras_serializable(PACKAGE)
class Output(keras.layers.Activation):
    """The last layer of a classifier, named as its output (`main`, `aux_4a`).

    It computes in float32 under every dtype policy, since a softmax in float16 loses
    small probabilities, and it carries what its classes mean, so that saving, cloning
    and reloading a model keep it.

    Args:
        activation: `"softmax"` for probabilities, `None` or `"linear"` for logits.
        superclasses: For each class of the labels, the name of the coarser class that
            this output learns; `None` (default) if it learns the classes themselves.

    Input and output shape: `(batch, classes)`, or `(batch, number of superclasses)`.
    """

    def __init__(
        self,
        activation: str | None = "softmax",
        superclasses: Sequence[str | int] | None = None,
        **kwargs,
    ):
        super().__init__(activation, **{"dtype": "float32"} | kwargs)
        self.superclasses = None if superclasses is None else list(superclasses)

    @property
    def superclass_names(self) -> list[str | int] | None:
        """The coarse classes in the order of this output's columns, or `None`."""
        return None if self.superclasses is None else sorted(set(self.superclasses))

    def own_labels(self, labels):
        """Turns labels of the classes into labels of what this output learns.

        Args:
            labels: Class indices `(batch,)` or `(batch, 1)`, or one-hot (or any
                weights per class) `(batch, classes)`.

        Returns:
            The labels as they came if this output learns the classes themselves, else
            superclass indices, or the sums over each superclass, of the same rank.
        """
        if self.superclasses is None:
            return labels
        names = self.superclass_names
        index = np.array([names.index(name) for name in self.superclasses])
        if len(labels.shape) == 2 and labels.shape[1] == len(index):
            members = np.eye(len(names), dtype="float32")[index]
            return ops.matmul(ops.cast(labels, "float32"), members)
        return ops.take(index, ops.cast(labels, "int32"), axis=0)

    def get_config(self):
        return super().get_config() | {"superclasses": self.superclasses}


def outputs_by_name(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """A model's outputs by name; a single output is `main` whatever it is called."""
    if isinstance(model.output, dict):
        return model.output
    if len(model.outputs) == 1:
        return {MAIN: model.outputs[0]}
    return dict(zip(model.output_names, model.outputs, strict=True))


def main_of(outputs):
    """The main output of `outputs`, which are a dict by name or that output alone."""
    return outputs[MAIN] if isinstance(outputs, Mapping) else outputs


# They pass on what they get, whatever it is, in another form.
_PASS_ON = (
    "Reshape",
    "Flatten",
    "Squeeze",
    "Identity",
    "Dropout",
    "Cast",
)


def output_activation(operation) -> str:
    """`"softmax"` if an operation's output is probabilities, `"linear"` if logits.

    Looks at the operation's activation, and through what only passes values on
    (reshaping, dropout, an `Activation("linear")`) to what is before it. What has no
    activation, such as a pool or a sum, puts out logits.

    Args:
        operation: The layer, or other Keras operation, that ends a graph.

    Returns:
        `"softmax"`, `"linear"`, or another activation's name, `"sigmoid"`.
    """
    if isinstance(operation, keras.Model):
        return output_activation(layer_of(operation.outputs[0]))
    if type(operation).__name__ == "Softmax":  # the layer, or keras.ops.softmax
        return "softmax"
    activation = getattr(operation, "activation", None)
    linear = activation is keras.activations.linear
    passes_on = type(operation).__name__ in _PASS_ON or (
        linear and isinstance(operation, keras.layers.Activation)
    )
    if passes_on and isinstance(operation.input, keras.KerasTensor):
        return output_activation(layer_of(operation.input))
    if activation is None or linear:
        return "linear"
    return getattr(activation, "__name__", type(activation).__name__)
