"""Shared by the tests: tiny pictures, tiny models, and quiet TensorFlow."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

import keras_inception as ki

SIDE, CLASSES = 64, 3


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(7)


@pytest.fixture(scope="session")
def pictures():
    """Eight raw RGB pictures and their labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, SIDE, SIDE, 3)).astype("float32")
    return images, np.arange(8) % CLASSES


def tiny_googlenet(**arguments) -> ki.DeeplySupervised:
    """The paper's network for 64 pixels and 3 classes, an eighth as wide."""
    defaults = {"input_shape": (SIDE, SIDE, 3), "classes": CLASSES, "width": 0.125}
    return ki.GoogLeNet(**defaults | arguments)


@pytest.fixture
def model():
    """A tiny GoogLeNet with its two heads, compiled."""
    model = tiny_googlenet()
    model.compile(keras.optimizers.SGD(0.01))
    return model
