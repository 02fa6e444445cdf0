"""Early exits as one TensorFlow function, for a SavedModel."""

from collections.abc import Callable
from typing import Any

from keras_inception.early_exit.early_exit import EarlyExit
from keras_inception.outputs import MAIN


def serving_function(early_exit: EarlyExit) -> Callable[[Any, Any], dict[str, Any]]:
    """Returns a function for `tf.function` that skips segments no picture needs.

    From float32 `images` and `thresholds` `(batch, exits)` to `main`, float32 `(batch,
    classes)` probabilities as in `serving_default`, so that clients can switch, and
    `exit`, string `(batch,)`, the name of the output that answered.
    """
    import tensorflow as tf  # only here: the core imports without TensorFlow

    segments = early_exit.segments
    (model_input,) = early_exit.model.inputs

    def answer_from(
        index: int, tensors: dict[int, Any], thresholds: Any
    ) -> tuple[Any, Any]:
        """Probabilities and exits of the pictures that reach a segment."""
        segment = segments[index]
        outputs = segment.model(segment.inputs_from(tensors), training=False)
        answer, *passed_on = tf.nest.flatten(outputs)
        # Main may answer in 16 bits where heads do not.
        probabilities = tf.cast(early_exit.probabilities_of(answer), tf.float32)
        exits = tf.fill(tf.shape(answer)[:1], index)
        if segment.name == MAIN:
            return probabilities, exits
        confidences = early_exit.confidences(segment.name, probabilities)
        # not `<`, so that pictures whose confidence is NaN remain as well
        remaining = tf.where(~(confidences >= thresholds[:, index]))

        def continue_with_the_rest() -> tuple[Any, Any]:
            later_tensors = {
                key: tf.gather_nd(tensor, remaining)
                for key, tensor in segment.tensors_after(tensors, passed_on).items()
            }
            later_answers, later_exits = answer_from(
                index + 1, later_tensors, tf.gather_nd(thresholds, remaining)
            )
            update = tf.tensor_scatter_nd_update
            return (
                update(probabilities, remaining, later_answers),
                update(exits, remaining, later_exits),
            )

        # A branch that is not taken is not computed, in TF Serving either.
        return tf.cond(
            tf.size(remaining) > 0,
            continue_with_the_rest,
            lambda: (probabilities, exits),
        )

    names = tf.constant([segment.name for segment in segments])

    def answer_at(images: Any, thresholds: Any) -> dict[str, Any]:
        probabilities, exits = answer_from(0, {id(model_input): images}, thresholds)
        return {MAIN: probabilities, "exit": tf.gather(names, exits)}

    return answer_at
