"""What an endpoint costs and what a head there would do: time and gradients."""

import time
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled, gradients_of
from keras_inception.endpoints.features import PooledFeatures
from keras_inception.endpoints.probes import LinearProbe
from keras_inception.outputs import output_activation

ROUNDS = 11


def milliseconds_to(
    model: keras.Model, tensors: Sequence[keras.KerasTensor], images: np.ndarray
) -> list[float]:
    """The median time of a forward pass up to each tensor, per picture.

    The passes take turns, so that other load affects all of them alike.
    """
    passes = [compiled(keras.Model([model.inputs[0]], tensor)) for tensor in tensors]
    batch = ops.convert_to_tensor(images, model.inputs[0].dtype)
    seconds = np.empty((ROUNDS + 1, len(passes)))
    for turn in seconds:
        for index, forward in enumerate(passes):
            started = time.perf_counter()
            # JAX returns before it has computed; reading the result waits for it.
            ops.convert_to_numpy(forward([batch])[0])
            turn[index] = time.perf_counter() - started
    # The first turn traces and compiles.
    return (1e3 * np.median(seconds[1:], axis=0) / len(images)).tolist()


def relative_gradients(
    features: PooledFeatures,
    tensors: Sequence[keras.KerasTensor],
    probes: Sequence[tuple[LinearProbe, float]],
    images: np.ndarray,
    labels: np.ndarray,
) -> list[float | None]:
    """The norm of a head's gradient to the weights before it, divided by main's.

    The head is a probe, its scores multiplied by a scale; its loss and main's are the
    mean cross entropy. All is computed at inference. `None` where no weight before the
    endpoint is trainable, or main sends it no gradient.

    Args:
        features: The model with its pooled features.
        tensors: The endpoints' tensors.
        probes: A probe and its scale for each endpoint.
        images, labels: A batch, and its class indices.
    """
    graph = features.graph
    variables = graph.trainable_variables
    if not variables:
        return [None] * len(tensors)
    others = [variable.value for variable in graph.non_trainable_variables]
    batch = ops.convert_to_tensor(images, graph.inputs[0].dtype)
    targets = ops.convert_to_tensor(labels)
    from_logits = output_activation(graph.outputs[0]) == "linear"
    loss = keras.losses.sparse_categorical_crossentropy
    scaled = [
        [ops.convert_to_tensor((scale * of).astype("float32")) for of in parts]
        for probe, scale in probes
        for parts in [(probe.weights, probe.bias)]
    ]

    def losses_of(values: list) -> list:
        outputs, _ = graph.stateless_call(values, others, [batch], training=False)
        main, *vectors = outputs
        losses = [loss(targets, main, from_logits=from_logits)]
        for vector, (weights, bias) in zip(vectors, scaled, strict=True):
            logits = ops.matmul(vector, weights) + bias
            losses.append(loss(targets, logits, from_logits=True))
        return [ops.mean(ops.cast(one, "float32")) for one in losses]

    values = [variable.value for variable in variables]
    squares = np.array(
        [_squares(of_loss) for of_loss in gradients_of(losses_of, values)]
    )
    found: list[float | None] = []
    for index, tensor in enumerate(tensors, start=1):
        before = keras.Model(graph.inputs, tensor).trainable_variables
        is_before = np.isin([id(v) for v in variables], [id(v) for v in before])
        of_main, of_head = squares[[0, index]][:, is_before].sum(1)
        found.append(float(np.sqrt(of_head / of_main)) if of_main > 0 else None)
    return found


def _squares(gradients: Sequence) -> list[float]:
    """Each gradient's square norm; 0 where a loss does not depend on the weight."""
    return [
        0.0 if one is None else float(np.square(ops.convert_to_numpy(one)).sum())
        for one in gradients
    ]
