"""What a classifier puts out: probabilities or logits."""

import keras

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
        return output_activation(operation.outputs[0]._keras_history.operation)
    if type(operation).__name__ == "Softmax":  # the layer, or keras.ops.softmax
        return "softmax"
    activation = getattr(operation, "activation", None)
    linear = activation is keras.activations.linear
    passes_on = type(operation).__name__ in _PASS_ON or (
        linear and isinstance(operation, keras.layers.Activation)
    )
    if passes_on and isinstance(operation.input, keras.KerasTensor):
        return output_activation(operation.input._keras_history.operation)
    if activation is None or linear:
        return "linear"
    return getattr(activation, "__name__", type(activation).__name__)
