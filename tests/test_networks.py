"""Networks of others by name or file: `train --network`, and everything after it."""

import contextlib
import io
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES, colorful_folders
from keras import layers

import keras_inception as ki
import keras_inception_cli
from keras_inception import networks
from keras_inception.networks import applications


def command(*words) -> int:
    return keras_inception_cli.main([str(word) for word in words])


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("mobilenet_v3_small", "mobilenet_v3_small"),
        ("MobileNetV3Small", "mobilenet_v3_small"),
        ("efficientnetb0", "efficientnet_b0"),
        ("EfficientNetV2B0", "efficientnet_v2_b0"),
        ("resnet50-v2", "resnet50_v2"),
        ("ConvNeXtTiny", "convnext_tiny"),
        ("nasnetmobile", "nasnet_mobile"),
        ("inceptionresnetv2", "inception_resnet_v2"),
    ],
)
def test_networks_go_by_their_names_in_keras(written, name):
    assert networks.known_name(written) == name
    assert name in networks.application_names()


def test_an_unknown_network_is_answered_with_similar_names():
    with pytest.raises(ValueError, match=r"'resnet5' in.*Similar names: resnet50"):
        networks.known_name("resnet5")
    with pytest.raises(ValueError, match=r"There are: convnext_base.*MODEL\.keras"):
        networks.known_name("qqq")


@pytest.mark.parametrize("name", networks.application_names())
def test_preprocessing_is_that_of_the_network(name):
    build = applications._functions()[name]
    family = getattr(keras.applications, build.__module__.rpartition(".")[2])
    pixels = keras.Input((4, 4, 3))
    ours = keras.Function(pixels, applications._preprocessed(pixels, build))
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    expected = family.preprocess_input(pictures.copy())
    np.testing.assert_allclose(ours(pictures), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "picture_size", "size"),
    [
        ("resnet50", 500, 224),
        ("InceptionV3", 500, 299),
        ("efficientnet_b3", 112, 300),
        ("resnet50", 32, 64),
        ("inception_v3", 32, 75),
        (None, 32, 64),
    ],
)
def test_input_sizes(name, picture_size, size):
    assert networks.default_size(name, picture_size) == size


HUGE = ("nasnet_large", "_l", "_m", "xlarge", "convnext_large")  # minutes to build


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in networks.application_names() if not name.endswith(HUGE)]
)
def test_input_sizes_are_those_of_keras(name):
    model = applications._functions()[name](weights=None, classes=2)
    # MobileNetV3 takes any size; Keras documents 224.
    assert (model.input_shape[1] or 224) == networks.default_size(name)


def classifier(*ends, shape=(16, 16, 3)) -> keras.Model:
    x = inputs = keras.Input(shape, name="images")
    x = layers.Rescaling(1 / 255, name="scale")(x)
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv1")(x)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.Conv2D(6, 3, activation="relu", name="conv2")(x)
    for end in ends:
        x = end(x)
    return keras.Model(inputs, x, name="net")


def dense_end(classes=4):
    return layers.GlobalAveragePooling2D(), layers.Dense(classes, "softmax", name="top")


@pytest.mark.parametrize(
    "ends",
    [
        dense_end,
        lambda: (layers.GlobalAveragePooling2D(), layers.Dense(4), layers.Softmax()),
        lambda: (  # as MobileNet
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Conv2D(4, 1),
            layers.Reshape((4,)),
            layers.Activation("softmax"),
        ),
        lambda: (layers.Conv2D(4, 1), layers.GlobalAveragePooling2D()),
    ],
)
def test_the_classifier_is_replaced_for_other_classes(ends):
    old = classifier(*ends())
    old.get_layer("conv1").trainable = False
    assert networks.adapted(old, 4, None).output is old.output
    old.class_names = list("abcd")
    assert networks.adapted(old, 4, None, list("abcd")).output is old.output
    for names in ("abce", "abdc"):  # other classes, or the same in another order
        replaced = networks.adapted(old, 4, None, list(names))
        assert replaced.output_shape == (None, 4)
        last = [layer for layer in replaced.layers if layer.weights][-1]
        assert last not in old.layers
        assert replaced.get_layer("conv1") is old.get_layer("conv1")
    new = networks.adapted(old, 7, None)
    assert new.output_shape == (None, 7)
    assert new.get_layer("conv1") is old.get_layer("conv1")
    assert new.get_layer("conv1").trainable
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3))
    answers = np.asarray(new(pictures))
    assert answers.shape == (2, 7)
    softmax = ki.attach_auxiliary(old, ["conv2"]).get_layer("aux_conv2").activation
    if softmax is keras.activations.softmax:
        np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)


def test_a_nested_classifier_is_replaced_and_the_backbone_kept():
    inner = classifier(shape=(None, None, 3))
    x = inputs = keras.Input((None, None, 3), name="pixels")
    x = layers.GlobalAveragePooling2D()(inner(x))
    old = keras.Model(inputs, layers.Dense(4, name="top")(x))
    new = networks.adapted(old, 5, 32)
    assert new.input_shape == (None, 32, 32, 3)
    assert [type(layer) for layer in new.layers].count(type(inner)) == 1
    assert ki.attach_auxiliary(new, 1).heads == ["aux_bn1"]
    whole = keras.Sequential([keras.Input((16, 16, 3)), classifier(*dense_end())])
    assert networks.adapted(whole, 5, None).output_shape == (None, 5)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (lambda: classifier(*dense_end()), 32, "16x16 pixels, not 32x32"),
        (lambda: classifier(*dense_end(), layers.Dense(4)), None, None),
        (
            lambda: classifier(*dense_end(), layers.BatchNormalization()),
            None,
            "last layer with weights.*a BatchNormalization",
        ),
        (lambda: classifier(*dense_end(), shape=(16, 8, 3)), None, "one input .batch"),
    ],
)
def test_models_that_are_no_network_for_pictures(model, size, message):
    if message is None:
        assert networks.adapted(model(), 5, size).output_shape == (None, 5)
        return
    with pytest.raises(ValueError, match=message):
        networks.adapted(model(), 5, size)


def test_a_plain_network_has_the_size_and_classes_of_the_pictures(tmp_path):
    file = str(tmp_path / "own.keras")
    classifier(*dense_end(), shape=(None, None, 3)).save(file)
    plain, model = networks.plain_network(file, list("abc"), picture_size=40)
    assert (plain.input_shape[1], plain.output_shape) == (64, (None, 3))
    assert model.output_shape == (None, 4)
    plain, model = networks.plain_network("mobilenet_v3_small", list("abc"), 40)
    assert (plain.input_shape[1], plain.output_shape, model) == (64, (None, 3), None)
    vector = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    vector.save(file)
    with pytest.raises(ValueError, match="is not a network to train: A net"):
        networks.plain_network(file, list("abc"), 40, 32)


def test_weights_that_cannot_be_downloaded_are_reported_and_left_out(monkeypatch):
    def offline(*arguments):
        raise OSError("no network")

    monkeypatch.setattr(networks.starting, "application", offline)
    lines = []
    assert networks.published_weights("xception", lines.append) is None
    assert lines == ["no network xception starts from random weights."]
    assert networks.published_weights("own.keras", lines.append) is None
    assert len(lines) == 1


@pytest.mark.slow
def test_published_weights_are_loaded_and_the_classifier_replaced(
    tmp_path, monkeypatch
):
    """From Keras's cache: what is downloaded is another random network here."""
    from keras.src.applications import mobilenet_v3

    shape = (224, 224, 3)
    trained = keras.applications.MobileNetV3Small(shape, weights=None)
    trained.save_weights(tmp_path / "it.weights.h5")
    monkeypatch.setattr(
        mobilenet_v3.file_utils, "get_file", lambda *_, **__: tmp_path / "it.weights.h5"
    )
    model = networks.application("mobilenet_v3_small", 64, CLASSES, "imagenet")
    assert model.output_shape == (None, CLASSES)
    for layer in ("conv", "expanded_conv_8_expand"):
        kernels = (m.get_layer(layer).kernel for m in (model, trained))
        np.testing.assert_array_equal(*kernels)


def test_freezing_and_layer_decay_know_the_stages_of_any_network():
    model = ki.attach_auxiliary(classifier(*dense_end()), 1)
    assert ki.optimizers.layer_decay_factors(model, 0.5) == {
        "conv1": 0.25,
        "bn1": 0.25,
        "conv2": 0.5,
    }
    assert ki.optimizers.freeze_through(model, "conv1") == ["conv1"]
    with pytest.raises(ValueError, match="Stages: conv1, conv2, top, aux_bn1"):
        ki.optimizers.freeze_through(model, "conv3")
    resnet = keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=CLASSES
    )
    factors = ki.optimizers.layer_decay_factors(resnet, 0.5)
    assert factors["conv5_block3_3_conv"] == 0.5
    assert factors["conv1_conv"] == 0.5**5
    assert "predictions" not in factors
    frozen = ki.optimizers.freeze_through(resnet, "conv3")
    assert frozen[-1].startswith("conv3_block4")
    assert not any(name.startswith("conv4") for name in frozen)


def test_freezing_reaches_into_sub_models():
    inner = classifier(shape=(None, None, 3))
    x = inputs = keras.Input((16, 16, 3), name="pixels")
    x = layers.GlobalAveragePooling2D()(inner(x))
    for heads in ([], ["net/conv1"]):
        plain = keras.Model(inputs, layers.Dense(4, name="top")(x))
        model = ki.attach_auxiliary(plain, heads)
        inner.trainable = True
        assert ki.optimizers.freeze_through(model, "net/bn1") == ["conv1", "bn1"]
        assert inner.get_layer("conv2").trainable
        assert not inner.get_layer("conv1").trainable


@pytest.fixture(scope="module")
def nested_run(tmp_path_factory):
    """A run on a backbone in a model for other classes than those of the pictures."""
    root = tmp_path_factory.mktemp("nested")
    colorful_folders(root / "colors", 12)
    inner = classifier(shape=(None, None, 3))
    x = inputs = keras.Input((16, 16, 3), name="pixels")
    x = layers.GlobalAveragePooling2D()(inner(x))
    old = keras.Model(inputs, layers.Dense(4, activation="softmax", name="top")(x))
    old.save(root / "net.keras")
    words = ("--network", root / "net.keras", "--epochs", 2, "--batch-size", 4)
    heads = ("--heads", "aux_conv1", "--aux-weight", "conv1=0.2")
    words += ("--recipe", "finetune", "--runs", root, "--name", "one", *heads)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert command("train", root / "colors", *words) == 0
    (root / "printed.txt").write_text(printed.getvalue())
    return root


def test_a_network_from_a_file_is_trained_with_heads_inside(nested_run):
    printed = (nested_run / "printed.txt").read_text()
    assert "kept the trunk; new main, aux_conv1" in printed
    settings = json.loads((nested_run / "one/config.json").read_text())
    assert settings["heads"] == ["net/conv1"]
    assert settings["aux_weight"] == {"aux_conv1": 0.2}
    assert settings["image_size"] == 16
    assert settings["batch_norm"] is True
    assert settings["width"] is None
    model = keras.saving.load_model(nested_run / "one/model.keras")
    shapes = {name: output.shape for name, output in model.output.items()}
    assert shapes == {"main": (None, 2), "aux_conv1": (None, 2)}
    assert [layer.name for layer in ki.detach_auxiliary(model).layers][1] == "net"


@pytest.mark.slow
def test_a_network_from_a_file_goes_through_the_commands(nested_run, capsys):
    colors, model = nested_run / "colors", nested_run / "one/model.keras"
    for name in ("evaluate", "gradients", "calibrate"):
        assert command(name, model, colors) == 0
    saved = ("--saved-models", nested_run / "saved", "--name", "one")
    exits = ("--early-exit", nested_run / "one/exits.json")
    assert command("export", model, *saved, *exits) == 0
    assert command("predict", nested_run / "saved/one", colors / "red/0.png") == 0
    printed = capsys.readouterr().out
    assert "aux_conv1" in printed
    assert "conv2" in printed
    # the next phase begins with the heads of the last one, and the same settings
    again = ("--config", nested_run / "one/config.json", "--network", model)
    again += ("--heads", "net/conv1", "--runs", nested_run, "--name", "two")
    assert command("train", colors, *again) == 0
    assert "kept the trunk, main, aux_conv1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network", "resnet5"], "Similar names: resnet50"),
        (["--network", "no.keras"], "no model no.keras"),
        (["--network", "vgg16", "--width", "0.5"], "--network vgg16 brings its own"),
        (["--network", "vgg16", "--architecture", "googlenet"], "leave out --archi"),
        (["--network", "vgg16", "--weights", "a.keras"], "--network FILE.keras"),
        (["--network", "a.keras", "--weights", "imagenet"], "leave out --weights"),
        (
            ["--network", "vgg16", "--heads", "2", "--aux-weight", "aux_a=1"],
            "--heads 2 leaves the endpoints open",
        ),
        (
            ["--network", "vgg16", "--weights", "none", "--image-size", "16"],
            "vgg16 can't be built for pictures of 16x16",
        ),
    ],
)
def test_options_that_do_not_go_together(words, message, colors, tmp_path, capsys):
    assert command("train", colors, "--runs", tmp_path, "--name", "x", *words) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "resnet50_v2", "efficientnet_b0", "densenet121"]
)
def test_a_network_of_keras_goes_through_every_command(name, tmp_path, capsys):
    colorful_folders(tmp_path / "colors", 12)
    run = ("--runs", tmp_path, "--name", "run", "--epochs", 1, "--batch-size", 8)
    network = ("--network", name, "--weights", "none", "--layer-decay", "0.8")
    assert command("train", tmp_path / "colors", *run, *network) == 0
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert settings["network"] == name
    assert settings["weights"] == "none"
    assert settings["image_size"] == 64
    file = tmp_path / "run/model.keras"
    model = keras.saving.load_model(file)
    assert [ki.AuxiliaryHead(at).name for at in settings["heads"]] == model.heads
    pictures = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3))
    pictures = pictures.astype("float32")
    main = model.predict(pictures, verbose=0)["main"]
    for words in (
        ("evaluate", file, tmp_path / "colors"),
        ("predict", file, tmp_path / "colors/red/0.png"),
        ("gradients", file, tmp_path / "colors"),
        ("calibrate", file, tmp_path / "colors"),
    ):
        assert command(*words) == 0
    saved = ("--saved-models", tmp_path / "saved", "--name", "net")
    exits = ("--early-exit", tmp_path / "run/exits.json")
    assert command("export", file, *saved, *exits) == 0
    served = tf.saved_model.load(tmp_path / "saved/net/1").signatures
    answer = served["serving_default"](images=tf.constant(pictures))["main"]
    np.testing.assert_allclose(answer, main, atol=1e-4)
    capsys.readouterr()
    # the same settings make the same network
    again = ("--config", tmp_path / "run/config.json", "--name", "again")
    assert command("train", tmp_path / "colors", "--runs", tmp_path, *again) == 0
    other = keras.saving.load_model(tmp_path / "again/model.keras")
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.save(tmp_path / "pictures.npy", pictures)
    code = (
        "import sys, keras, numpy as np, keras_inception as ki\n"
        "plain = ki.detach_auxiliary(keras.saving.load_model(sys.argv[1]))\n"
        "np.save(sys.argv[3], plain.predict(np.load(sys.argv[2]), verbose=0))\n"
    )
    files = [file, tmp_path / "pictures.npy", tmp_path / "main.npy"]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
    np.testing.assert_allclose(np.load(files[2]), main, atol=1e-5)


@pytest.mark.slow
def test_a_search_over_the_endpoints_of_a_network(tmp_path, capsys):
    from tuning import search

    colorful_folders(tmp_path / "colors", 12)
    classifier(*dense_end(2)).save(tmp_path / "net.keras")
    words = [tmp_path / "colors", "--network", tmp_path / "net.keras", "--trials", 3]
    words += ["--epochs", 1, "--batch-size", 8, "--directory", tmp_path / "search"]
    assert search.main([str(word) for word in words]) == 0
    best = json.loads((tmp_path / "search/best.json").read_text())["hyperparameters"]
    assert set(best["heads"]) <= {"bn1", "conv2"}
    printed = capsys.readouterr().out
    train = printed.rpartition("train it: keras-inception train ")[2].split()
    run = ("--runs", tmp_path, "--name", "best")
    assert command("train", *train, *run) == 0
