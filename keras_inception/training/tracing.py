"""Variables made before a graph is traced, so that it is traced once."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_inception.supervision import DeeplySupervised


def make_variables(model: DeeplySupervised, batch: Sequence) -> None:
    """Makes what the optimizer, the loss and the metrics remember, as `fit` would.

    TensorFlow traces a step that makes variables a second time, and tracing a GoogLeNet
    takes seconds. Where there is another backend or a distribution strategy, Keras does
    this itself, and nothing happens here.

    Args:
        model: Compiled.
        batch: Pictures and labels; the labels show their form.
    """
    if keras.backend.backend() != "tensorflow" or _is_distributed(model):
        return
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    _, labels, *_ = batch
    guesses = {
        name: ops.full((len(labels), output.shape[-1]), 1 / output.shape[-1])
        for name, output in model.output.items()
    }
    model.compute_loss(None, labels, guesses)
    model.compute_metrics(None, labels, guesses)
    model.reset_metrics()


def _is_distributed(model: DeeplySupervised) -> bool:
    # without a strategy TensorFlow names its default one, which has no such word
    return type(model.distribute_strategy).__name__ != "_DefaultDistributionStrategy"
