"""Fixtures and helpers for all tests: tiny pictures, tiny models, quiet TensorFlow."""

import dataclasses
import os
import random

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from PIL import Image

import keras_inception as ki
from keras_inception.supervision import supervise

SIDE, CLASSES = 64, 3


def pytest_sessionstart():
    """Seeds everything, TensorFlow included, which this would import."""
    if keras.backend.backend() == "tensorflow":
        keras.utils.set_random_seed(7)


@pytest.fixture(autouse=True)
def _seeded():
    _seed()


def pytest_fixture_setup(fixturedef):
    """Seeds shared fixtures, so that they do not depend on which test comes first."""
    if fixturedef.scope != "function":
        _seed()


def _seed():
    """Seeds what Keras draws its own seeds from.

    `keras.utils.set_random_seed` would throw away TensorFlow's compiled kernels too,
    which takes longer than most tests.
    """
    random.seed(7)
    np.random.seed(7)


@pytest.fixture(scope="session")
def pictures():
    """Eight raw RGB pictures and their labels."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (8, SIDE, SIDE, 3)).astype("float32")
    return images, np.arange(8) % CLASSES


@pytest.fixture(scope="session")
def colors(tmp_path_factory):
    """A folder of red and blue pictures, which are easy to classify."""
    root = tmp_path_factory.mktemp("data") / "colors"
    colorful_folders(root, 20)
    return root


def tiny_googlenet(**arguments) -> ki.DeeplySupervised:
    """Builds the paper's network for 64 pixels and 3 classes, an eighth as wide."""
    defaults = {"input_shape": (SIDE, SIDE, 3), "classes": CLASSES, "width": 0.125}
    return ki.GoogLeNet(**defaults | arguments)


# The paper's heads on a short trunk, which is traced in a third of the time.
KEPT = ("conv1_7x7_s2", "inception_3a", "inception_4a", "inception_4d", "inception_5b")
SHORT = dataclasses.replace(
    ki.GOOGLENET,
    name="googlenet_short",
    rows={
        name: row
        for name, row in ki.GOOGLENET.rows.items()
        if name in KEPT or (name.startswith("pool") and name != "pool1_norm1")
    },
)


def short_googlenet(**arguments) -> ki.DeeplySupervised:
    """Builds a GoogLeNet of four modules, for tests that are not about its table."""
    return tiny_googlenet(architecture=SHORT, **arguments)


@pytest.fixture
def model():
    """A tiny GoogLeNet with its two heads, compiled."""
    model = tiny_googlenet()
    model.compile(keras.optimizers.SGD(0.01))
    return model


def small_supervised(
    superclasses=None, classes=CLASSES, dropout=0.7, **compile_arguments
) -> ki.DeeplySupervised:
    """Builds two dense layers on 8x8 pictures with a head between: trains at once."""
    images = keras.Input((8, 8, 3), name="images")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Flatten()(x)
    first = keras.layers.Dense(6, activation="relu", name="first")(x)
    second = keras.layers.Dense(5, activation="relu", name="second")(first)
    main = keras.layers.Dense(classes, activation="softmax", name="main")(second)
    head = ki.AuxiliaryHead(
        "first", "aux", units=4, dropout=dropout, superclasses=superclasses
    )
    model = supervise(images, main, {"first": first}, [head])
    model.compile("sgd", **compile_arguments)
    return model


def small_pictures(count: int = 12):
    """Makes pictures for `small_supervised`, and labels."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (count, 8, 8, 3)).astype("float32")
    return images, np.arange(count) % CLASSES


def bright_and_dark() -> np.ndarray:
    """Makes 23 pictures of very different brightness, whose answers differ."""
    pictures = np.random.default_rng(0).uniform(0, 255, (23, 32, 32, 3))
    return (pictures * np.linspace(0, 1, 23)[:, None, None, None]).astype("float32")


def colorful_folders(root, count: int = 21):
    """Writes a folder of red and one of blue PNG files, which are easy to classify."""
    generator = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 60, (24, 24, 3)).astype("uint8")
            pixels[..., channel] += 180
            Image.fromarray(pixels).save(root / name / f"{index}.png")


def logged(directory) -> dict[str, dict[str, list]]:
    """Reads event files with TensorBoard's own reader: run to tag to steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for path in sorted({file.parent for file in directory.rglob("events.out.*")}):
        events = EventAccumulator(str(path)).Reload()
        tags = events.Tags()
        run = str(path.relative_to(directory))
        found[run] = {
            tag: [event.step for event in events.Tensors(tag)]
            for tag in tags["tensors"]
        }
        if tags["graph"]:
            found[run]["graph"] = []
    return found


def hparams(log):
    """Reads the columns of the HParams tab that a run declares, and those it fills."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    events = EventAccumulator(str(log)).Reload()
    experiment = metadata.parse_experiment_plugin_data(
        events.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    )
    session = metadata.parse_session_start_info_plugin_data(
        events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    )
    return {info.name for info in experiment.hparam_infos}, set(session.hparams)
