"""Training a model on the features of its frozen trunk.

`rest`, one of the parts of `split_frozen`, is fitted; files, curves and pictures are of
the whole model.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_inception.supervision import DeeplySupervised, Features


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features; each epoch takes one of several passes over the pictures.

    The passes differ in their augmentation. The first epochs take them one after the
    other in their own order, as if they were training on the pictures; later epochs
    take them again, in an order that is a function of the seed and the epoch.

    Args:
        passes: The features of each pass, in the order of training.
        batch_size: Examples per batch; the last batch may be smaller.
        seed: Determines the order from the second round on. Defaults to 0.
    """

    def __init__(self, passes: Sequence[Features], batch_size: int, seed: int = 0):
        super().__init__()
        self.passes, self.batch_size, self.seed = list(passes), batch_size, seed
        self.start(0)

    def start(self, epoch: int) -> None:
        """Makes the batches those of an epoch, counted from 0."""
        self._features = self.passes[epoch % len(self.passes)]
        count = len(self._features.arrays[0])
        self._order = np.arange(count)
        if epoch >= len(self.passes):
            self._order = np.random.default_rng((self.seed, epoch)).permutation(count)

    def __len__(self) -> int:
        return -(-len(self._order) // self.batch_size)

    def __getitem__(self, index: int) -> tuple:
        start = index * self.batch_size
        rows = self._order[start : start + self.batch_size]
        arrays, labels = self._features
        assert labels is not None
        return tuple(array[rows] for array in arrays), labels[rows]


def compile_rest(model: DeeplySupervised, rest: DeeplySupervised) -> None:
    """Compiles `rest` as `model` is compiled, with the same optimizer object.

    Both have the same trainable weights in the same order, so the state of the
    optimizer fits both, and is saved with `model`.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    # as a resumed run would be compiled, so that no setting is left out
    config = keras.saving.deserialize_keras_object(model.get_compile_config())
    rest.compile(**config | {"optimizer": model.optimizer})


class ForWhole(keras.callbacks.Callback):
    """Calls callbacks for the whole model while `fit` trains its rest.

    They save, draw and stop the whole model; its loss weights apply to the rest.

    Args:
        whole: The compiled model that was split.
        callbacks: The callbacks.
        batches: The training data; its `start` is called in each epoch.
    """

    def __init__(
        self,
        whole: DeeplySupervised,
        callbacks: Sequence[keras.callbacks.Callback],
        batches: FeatureBatches,
    ):
        super().__init__()
        self.whole, self.batches = whole, batches
        self._callbacks = keras.callbacks.CallbackList(list(callbacks), model=whole)

    def set_params(self, params: dict) -> None:
        super().set_params(params)
        self._callbacks.set_params(params)

    def on_train_begin(self, logs: Any = None) -> None:
        self.whole.stop_training = False
        self._update_weights()
        self._callbacks.on_train_begin(logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._update_weights()
        self._callbacks.on_train_end(logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._update_weights()
        self._callbacks.on_epoch_begin(epoch, logs)
        self.batches.start(epoch)
        for head, weight in self.model.auxiliary_weights.items():
            weight.assign(self.whole.auxiliary_weights[head])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._update_weights()
        self._callbacks.on_epoch_end(epoch, logs)
        self._stop()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._callbacks.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._callbacks.on_train_batch_end(batch, logs)
        self._stop()

    def on_test_begin(self, logs: Any = None) -> None:
        self._update_weights()
        self._callbacks.on_test_begin(logs)

    def on_test_end(self, logs: Any = None) -> None:
        self._update_weights()
        self._callbacks.on_test_end(logs)

    def _update_weights(self) -> None:
        # On JAX asking for the model brings its variables, also whole's, up to date.
        _ = self.model

    def _stop(self) -> None:
        if self.whole.stop_training:
            self.model.stop_training = True
