"""Early exits inside a TensorFlow graph, for a SavedModel."""

import math
from collections.abc import Callable

from keras import ops

from keras_inception.early_exit.checks import puts_out_logits
from keras_inception.early_exit.confidence import SMALLEST
from keras_inception.early_exit.early_exit import EarlyExit
from keras_inception.outputs import MAIN


def answer_early(early_exit: EarlyExit) -> Callable:
    """Early exits as a function to trace, which skips what it needn't compute.

    Args:
        early_exit: The exits, on a model of pictures of a fixed size.

    Returns:
        From `images`, float32 `(batch, height, width, 3)`, at least one, to `main`,
        float32 `(batch, classes)` probabilities (as `serving_default`, so that a client
        can change over), and `exit`, string `(batch,)`, the name of the output that
        answered.
    """
    import tensorflow as tf  # this function's matter alone: the core does without

    segments = early_exit.segments
    logits = puts_out_logits(early_exit.model)
    (pixels,) = early_exit.model.inputs

    def answers_from(index, kept):
        """Probabilities and exits of the pictures in `kept`, from a segment on."""
        segment = segments[index]
        outputs = segment.model([kept[t] for t in segment.takes], training=False)
        answer, *given = tf.nest.flatten(outputs)
        probabilities = tf.nn.softmax(answer) if logits else answer
        exits = tf.fill(tf.shape(answer)[:1], index)
        if index + 1 == len(segments):
            return probabilities, exits
        kept = kept | dict(zip(segment.gives, given, strict=True))
        sure = _confidence(early_exit, segment.name, probabilities)
        # not "less than": what is no number does not leave
        stays = tf.where(~(sure >= early_exit.thresholds[segment.name]))

        def go_on():
            inside = {t: tf.gather_nd(value, stays) for t, value in kept.items()}
            later, at = answers_from(index + 1, inside)
            return (
                tf.tensor_scatter_nd_update(probabilities, stays, later),
                tf.tensor_scatter_nd_update(exits, stays, at),
            )

        # A branch that isn't taken is not computed, in TF Serving too.
        return tf.cond(tf.size(stays) > 0, go_on, lambda: (probabilities, exits))

    names = tf.constant([segment.name for segment in segments])

    def answer(images):
        probabilities, exits = answers_from(0, {id(pixels): images})
        return {MAIN: probabilities, "exit": tf.gather(names, exits)}

    return answer


def _confidence(early_exit, name, probabilities):
    """What `EarlyExit.leaves` compares with the threshold, as a graph."""
    logs = ops.log(ops.maximum(probabilities, SMALLEST))
    temperature = early_exit.temperatures.get(name, 1.0)
    if temperature != 1:
        probabilities = ops.softmax(logs / temperature)
        logs = ops.log(ops.maximum(probabilities, SMALLEST))
    if early_exit.confidence == "entropy":
        return 1 + ops.sum(probabilities * logs, -1) / math.log(probabilities.shape[-1])
    return ops.max(probabilities, -1)
