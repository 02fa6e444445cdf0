"""Losses and their weights for every output of a model."""

import copy
from collections.abc import Sequence

import keras

from keras_inception.layers import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class LossWeights(keras.metrics.Metric):
    """Holds the heads' loss weights as variables that a callback can change.

    A metric only in form: metrics' variables are the one kind of state that Keras
    carries through a compiled training step on every backend (JAX compiles any other
    variable in as a constant) and that counts neither as a parameter nor as a weight to
    be saved. Its result is empty, so that nothing appears in the logs.
    """

    def __init__(self, names: Sequence[str], name: str = "loss_weights", **kwargs):
        super().__init__(name=name, **kwargs)
        # A metric's variables are summed over the devices of a tf.distribute strategy:
        # each would see its share of the weight.
        self.by_name = {
            head: self.add_variable(
                (), "ones", aggregation="only_first_replica", name=f"{head}_loss_weight"
            )
            for head in names
        }

    def update_state(self, *args, **kwargs):
        pass

    def reset_state(self):
        pass

    def result(self):
        return {}

    # The values travel in the compile configuration, as numbers.
    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass


def own_copy(loss_or_metric):
    """A loss or metric for one more output: each must keep its own state."""
    if isinstance(loss_or_metric, (keras.metrics.Metric, keras.losses.Loss)):
        return type(loss_or_metric).from_config(loss_or_metric.get_config())
    return copy.copy(loss_or_metric)


def from_logits(loss):
    """The crossentropies that Keras knows by name, for outputs without a softmax."""
    by_name = {
        "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
        "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    }
    if isinstance(loss, str) and loss in by_name:
        return by_name[loss](from_logits=True)
    return loss
