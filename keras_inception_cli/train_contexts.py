"""Contexts of `train`: seeds and precision, and a directory for each worker."""

import contextlib
import tempfile
from collections.abc import Iterator

import keras

from keras_inception.training import Devices, RunDirectory
from keras_inception_cli.train_config import TrainConfig


@contextlib.contextmanager
def reproducible(config: TrainConfig) -> Iterator[None]:
    """Seeds everything, makes operations deterministic, and sets the precision."""
    import tensorflow as tf

    keras.utils.set_random_seed(config.seed)
    if not config.jit_compile or keras.backend.backend() != "tensorflow":
        # Keras does not use XLA where TensorFlow must be deterministic.
        tf.config.experimental.enable_op_determinism()
    before = keras.config.dtype_policy()
    if config.mixed_precision:
        keras.config.set_dtype_policy(f"mixed_{config.mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def scratch_run(devices: Devices) -> Iterator[RunDirectory | None]:
    """A temporary run directory for workers other than the chief.

    Every worker has to take part in saving; only the chief's files are kept.
    """
    if devices.is_chief:
        yield None
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield RunDirectory(directory)
