"""Several machines on the TensorFlow backend, until Keras can do it by itself.

Keras 3.15.1 fails under `tf.distribute.MultiWorkerMirroredStrategy` in two places
(keras#20585), which are mended here.
"""

import keras

from keras_inception.graph import patch_multi_worker_trainer

SEEN_WITH = ("3.15.1",)


def multi_worker_strategy():
    """A `tf.distribute.MultiWorkerMirroredStrategy` under which Keras's `fit` works.

    Call it first in the program, before TensorFlow computes anything, in a process on
    each machine whose environment variable `TF_CONFIG` names all of them; it waits
    until every one has come. `docs/several-devices.md` has the commands. Model and
    optimizer are made in the strategy's scope, and `fit` is called by all:

        strategy = multi_worker_strategy()
        with strategy.scope():
            model = GoogLeNet(classes=10)
            model.compile("sgd")
        model.fit(dataset)  # batches for all the workers together

    Two methods of Keras are replaced, for this strategy alone, in the whole process:
    one that averages logs over a dimension that they have not, and one that takes a
    batch of several devices for a tensor.

    Raises:
        RuntimeError: If the backend is not TensorFlow, Keras is of a version that this
            was not seen to work with, or something was computed before.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "multi_worker_strategy is of the TensorFlow backend; this is "
            f"{keras.backend.backend()}. On JAX, keras.distribution.initialize needs "
            "no help."
        )
    if keras.__version__ not in SEEN_WITH:
        raise RuntimeError(
            f"What is mended for several machines is a part of Keras "
            f"{', '.join(SEEN_WITH)}; this is {keras.__version__}. It may not need "
            "mending any more: try tf.distribute.MultiWorkerMirroredStrategy() as it "
            f"is, or pip install keras=={SEEN_WITH[-1]}"
        )
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    patch_multi_worker_trainer()
    return strategy
