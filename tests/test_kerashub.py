"""Heads inside the backbone of a KerasHub task, and everything after it."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES, colorful_folders

import keras_inception as ki
import keras_inception_cli

SIDE = 32


def task(**arguments) -> keras.Model:
    """A ResNet of two blocks, with the preprocessing of a published one."""
    keras_hub = pytest.importorskip("keras_hub")  # here, since it takes seconds
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        **arguments,
    )
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(SIDE, SIDE), scale=1 / 255, offset=[-0.5, -0.4, -0.3]
    )
    return keras_hub.models.ResNetImageClassifier(
        backbone=backbone,
        num_classes=CLASSES,
        preprocessor=keras_hub.models.ResNetImageClassifierPreprocessor(converter),
    )


def pixels(count=6):
    random = np.random.default_rng(0)
    return random.uniform(0, 255, (count, SIDE, SIDE, 3)).astype("float32")


def test_a_task_has_heads_inside_and_comes_back_whole(tmp_path):
    plain = task(image_shape=(SIDE, SIDE, 3))
    model = ki.attach_auxiliary(plain, 2)
    assert len(model.heads) == 2
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert ki.detach_auxiliary(model) is plain
    images = pixels()
    prepared = images / 255 - np.array([0.5, 0.4, 0.3], "float32")
    before = plain.predict(images, verbose=0)
    answers = model.predict(prepared, verbose=0)
    np.testing.assert_allclose(answers["main"], before, atol=1e-5)
    model.compile("sgd")  # logits
    model.fit(prepared, np.arange(6) % CLASSES, verbose=0)
    trained = plain.predict(images, verbose=0)
    assert np.any(trained != before)
    model.save(tmp_path / "model.keras")
    again = ki.detach_auxiliary(keras.saving.load_model(tmp_path / "model.keras"))
    assert type(again) is type(plain)
    assert again.preprocessor.image_converter.offset == [-0.5, -0.4, -0.3]
    np.testing.assert_array_equal(again.predict(images, verbose=0), trained)
    assert json.dumps(again.get_config()) == json.dumps(plain.get_config())


@pytest.mark.slow
def test_a_task_from_a_file_is_trained_served_and_detached(tmp_path):
    """Its size is open, and it has other classes than the pictures."""
    colorful_folders(tmp_path / "colors", 12)
    task().save(tmp_path / "task.keras")

    def command(*words):
        return keras_inception_cli.main([str(word) for word in words])

    run = ("--runs", tmp_path, "--name", "run", "--epochs", 1, "--image-size", SIDE)
    network = ("--network", tmp_path / "task.keras", "--batch-size", 8)
    assert command("train", tmp_path / "colors", *run, *network) == 0
    file = tmp_path / "run/model.keras"
    model = keras.saving.load_model(file)
    assert len(model.heads) == 2
    assert model.output["main"].shape == (None, 2)
    main = model.predict(pixels(), verbose=0)["main"]
    for name in ("evaluate", "gradients", "calibrate"):
        assert command(name, file, tmp_path / "colors") == 0
    exits = ("--early-exit", tmp_path / "run/exits.json")
    saved = ("--saved-models", tmp_path / "saved", "--name", "hub")
    assert command("export", file, *saved, *exits) == 0
    served = tf.saved_model.load(tmp_path / "saved/hub/1").signatures
    answer = served["serving_default"](images=tf.constant(pixels()))["main"]
    expected = keras.ops.softmax(main)
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    code = (
        "import sys, keras, numpy as np, keras_inception as ki\n"
        "plain = ki.detach_auxiliary(keras.saving.load_model(sys.argv[1]))\n"
        "np.save(sys.argv[3], plain.predict(np.load(sys.argv[2]), verbose=0))\n"
    )
    np.save(tmp_path / "pixels.npy", pixels())
    files = [file, tmp_path / "pixels.npy", tmp_path / "main.npy"]
    subprocess.run([sys.executable, "-c", code, *files], check=True, env=os.environ)
    np.testing.assert_allclose(np.load(files[2]), main, atol=1e-5)
