"""Training on several machines with the TensorFlow backend.

Keras 3.15.1 fails under `tf.distribute.MultiWorkerMirroredStrategy` in two places
(keras#20585), which are patched here.
"""

from typing import Any

import keras

from keras_inception.keras_behavior import patch_multi_worker_trainer

TESTED_VERSIONS = ("3.15.1",)


def multi_worker_strategy() -> Any:
    """Makes a `tf.distribute.MultiWorkerMirroredStrategy` under which `fit` works.

    Call it on every machine before TensorFlow computes anything, with all machines in
    the environment variable `TF_CONFIG`; it waits until all have started.
    `docs/several-devices.md` has the commands. Build and compile in the strategy's
    scope, and call `fit` on every machine:

        strategy = multi_worker_strategy()
        with strategy.scope():
            model = GoogLeNet(classes=10)
            model.compile("sgd")
        model.fit(dataset)  # batches for all the workers together

    Patches Keras in this process: see `keras_behavior.patch_multi_worker_trainer`.

    Raises:
        RuntimeError: If the backend is not TensorFlow, this version of Keras was not
            tested with the patch, or TensorFlow has already computed something.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "multi_worker_strategy needs the TensorFlow backend; this is "
            f"{keras.backend.backend()}. On JAX use keras.distribution.initialize."
        )
    if keras.__version__ not in TESTED_VERSIONS:
        raise RuntimeError(
            f"The patch for several machines was tested with Keras "
            f"{', '.join(TESTED_VERSIONS)}; this is {keras.__version__}. Keras may no "
            "longer need it: try tf.distribute.MultiWorkerMirroredStrategy(), or run: "
            f"pip install keras=={TESTED_VERSIONS[-1]}"
        )
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    patch_multi_worker_trainer()
    return strategy
