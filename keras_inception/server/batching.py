"""Combines concurrent calls of a signature by TensorFlow's own batch function."""

import itertools
from collections.abc import Callable

import tensorflow as tf

from keras_inception.server.limits import Batching

Outputs = dict[str, tf.Tensor]

_numbers = itertools.count()


def batched(
    name: str,
    function: tf.types.experimental.ConcreteFunction,
    batching: Batching,
) -> Callable[..., Outputs]:
    """A signature whose concurrent calls share batches.

    Args:
        name: The signature's name.
        function: The signature, as a loaded SavedModel has it.
        batching: How rows are combined.

    Returns:
        A function from named tensors to a dict of named tensors. It takes at most
        `batching.rows` rows, and fails for all calls in a batch if one of them fails.
    """
    specs = function.structured_input_signature[1]
    outputs = sorted(function.structured_outputs)

    @tf.nondifferentiable_batch_function(
        batching.threads,
        batching.rows,
        batching.micros,
        max_enqueued_batches=10_000,  # never reached: Limits.queue is smaller
        autograph=False,
    )
    def run_batch(*tensors):
        answer = function(**dict(zip(specs, tensors, strict=True)))
        return [answer[output] for output in outputs]

    # TensorFlow has one batch queue per name scope and process. With equal names, two
    # models would answer each other's requests (test_two_models_do_not_share_a_batch).
    scope = f"{name}_{next(_numbers)}"

    @tf.function(input_signature=list(specs.values()), autograph=False)
    def enqueue(*tensors):
        with tf.name_scope(scope):
            return dict(zip(outputs, run_batch(*tensors), strict=True))

    return lambda **tensors: enqueue(*(tensors[key] for key in specs))
