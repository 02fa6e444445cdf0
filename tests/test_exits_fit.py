"""Exits for a finished classifier: placed, trained while it is frozen, calibrated."""

import json

import keras
import numpy as np
import pytest
from conftest import colorful_folders
from keras import layers

import keras_inception as ki
import keras_inception_cli
from keras_inception.early_exit import EarlyExit
from keras_inception.early_exit.placement import Pictures

SIDE = 8


def striped(count, seed=0):
    """Two classes that a single convolution tells apart, and one that needs two."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    phase = random.integers(0, 2, count)
    rows = (np.arange(SIDE)[:, None] + phase[:, None, None]) % 2 * np.ones((1, SIDE))
    pictures = np.where(labels[:, None, None], rows, rows.transpose(0, 2, 1))
    noise = random.normal(0, 0.3, pictures.shape)
    return (pictures + noise)[..., None].astype("float32"), labels


def maps():
    inputs = keras.Input((SIDE, SIDE, 1))
    x = layers.Conv2D(8, 3, padding="same", name="one")(inputs)
    x = layers.BatchNormalization(name="one_bn")(x)
    x = layers.ReLU(name="one_relu")(x)
    for name in ("two", "three"):
        inside = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
        x = layers.Add(name=name)([x, inside])
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def sequences():
    """Logits, and words instead of pixels."""
    inputs = keras.Input((SIDE,), dtype="int32")
    x = layers.Embedding(4, 6)(inputs)
    x = layers.Conv1D(8, 3, padding="same", activation="relu", name="one")(x)
    x = layers.Conv1D(32, 3, padding="same", activation="relu", name="two")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def vectors():
    inputs = keras.Input((SIDE,))
    x = layers.Dense(16, activation="relu", name="one")(inputs)
    x = layers.Dense(64, activation="relu", name="two")(x)
    x = layers.Dense(64, activation="relu", name="three")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def data_for(model, count, seed):
    if len(model.input_shape) == 4:
        return striped(count, seed)
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    if model.input.dtype == "int32":
        return random.integers(0, 2, (count, SIDE)) + 2 * labels[:, None], labels
    values = random.normal(0, 1, (count, SIDE)) + 2 * labels[:, None]
    return values.astype("float32"), labels


@pytest.fixture(scope="module", params=[maps, sequences, vectors])
def fitted(request):
    """A trained network, its weights before `fit`, its data and its exits."""
    model = request.param()
    logits = model.layers[-1].activation is keras.activations.linear
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile(keras.optimizers.Adam(0.01), loss)
    train, held_out = data_for(model, 240, 0), data_for(model, 160, 1)
    model.fit(*train, epochs=6, verbose=0)
    before = model.get_weights()
    early = EarlyExit.fit(model, train, held_out, max_exits=2, max_accuracy_drop=0.02)
    return model, before, train, held_out, early


def test_exits_save_computation_and_keep_the_accuracy(fitted):
    _, _, _, (images, labels), early = fitted
    found = early.calibration
    assert found.chosen.multiply_adds < found.main.multiply_adds
    assert 1 <= len(early.model.heads) <= 2
    probabilities, exits = early.predict(images)
    accuracy = np.mean(probabilities.argmax(-1) == labels)
    assert accuracy >= found.main.accuracy - 0.02 - 1e-6
    assert accuracy == pytest.approx(found.chosen.accuracy, abs=0.01)
    assert set(exits) & set(early.model.heads)


def test_the_names_of_the_classes_are_kept(tmp_path):
    plain = maps()
    plain.class_names = ["a", "b"]  # as `attach_auxiliary` finds them
    model = ki.attach_auxiliary(plain, ["two"])
    assert ki.detach_auxiliary(model).class_names == ["a", "b"]
    early = EarlyExit.fit(model, striped(60), striped(40, 1), max_exits=1)
    early.model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.class_names == ["a", "b"]


def test_the_network_does_not_change(fitted):
    model, before, _, (images, _), early = fitted
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(layer.trainable for layer in model.layers)
    expected = model.predict(images, verbose=0)
    main = early.model.predict(images, verbose=0)["main"]
    np.testing.assert_array_equal(main, expected)
    model.fit(images[:8], np.zeros(8), verbose=0)  # it can still learn
    model.set_weights(before)


def test_a_saved_one_answers_alike(fitted, tmp_path):
    _, _, _, (images, _), early = fitted
    early.model.save(tmp_path / "model.keras")
    early.save(tmp_path / "exits.json")
    model = keras.saving.load_model(tmp_path / "model.keras")
    again = EarlyExit.load(tmp_path / "exits.json", model)
    for one, other in zip(early.predict(images), again.predict(images), strict=True):
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, atol=1e-6)
        else:
            np.testing.assert_array_equal(one, other)


class Unreadable:
    """Labels that must not be looked at."""

    def __array__(self, *args, **kwargs):
        raise AssertionError("labels were read")

    def __getitem__(self, index):
        return self

    def __len__(self):
        raise AssertionError("labels were counted")


def test_without_labels_main_is_the_teacher():
    model = maps()
    (images, _), (others, _) = striped(240), striped(160, seed=1)
    in_batches = [(images[i : i + 50], Unreadable()) for i in range(0, 240, 50)]
    early = EarlyExit.fit(
        model, in_batches, (others, Unreadable()), max_exits=1, labels=False
    )
    assert early.calibration.main.accuracy == 1  # main agrees with itself
    answers = model.predict(others, verbose=0).argmax(-1)
    agreement = np.mean(early.predict(others)[0].argmax(-1) == answers)
    assert agreement >= 1 - 0.005 - 1e-6
    # Nor need there be any.
    model = early.model
    alone = [images[i : i + 50] for i in range(0, 240, 50)]
    for data in (alone, images, in_batches):
        pairs = list(Pictures(model, data, labels=False))
        assert sum(len(answers) for _, answers in pairs) == 240


def test_no_picture_both_chooses_and_trains():
    model = ki.attach_auxiliary(maps(), [])
    images, labels = striped(200)
    order = np.random.default_rng(5).permutation(200)
    seen = {}
    for part in ("choosing", "training"):
        for data in ((images, labels), [(images[order], labels[order])]):
            parts = list(Pictures(model, data, True, part))
            joined = np.concatenate([batch for batch, _ in parts])
            found = {picture.tobytes() for picture in joined}
            assert seen.setdefault(part, found) == found  # in any order
            by_pixels = {p.tobytes(): n for p, n in zip(images, labels, strict=True)}
            for batch, its_labels in parts:
                for picture, label in zip(batch, its_labels, strict=True):
                    assert by_pixels[picture.tobytes()] == label
    assert not seen["choosing"] & seen["training"]
    assert len(seen["choosing"] | seen["training"]) == 200
    assert 10 <= len(seen["choosing"]) <= 45


def test_parts_come_in_batches_of_one_size():
    """Whatever size the dataset has: a surplus that waits would fill the memory."""
    model = ki.attach_auxiliary(maps(), [])
    images, labels = striped(2000)
    for size in (7, 100, 256, 2000):
        batches = [
            (images[start : start + size], labels[start : start + size])
            for start in range(0, 2000, size)
        ]
        for part, least in (("choosing", 1), ("training", 13)):
            *whole, last = [len(y) for _, y in Pictures(model, batches, True, part)]
            assert len(whole) >= least
            assert set(whole) == {128}
            assert 1 <= last <= 128


@pytest.mark.slow
def test_a_network_of_keras_applications():
    model = keras.applications.MobileNetV3Small(
        (32, 32, 3), weights=None, classes=3, alpha=0.35, minimalistic=True
    )
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (48, 32, 32, 3)).astype("float32")
    early = EarlyExit.fit(model, images[:32], images[32:], max_exits=1, labels=False)
    assert early.predict(images)[0].shape == (48, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_exits": 0}, "max_exits must be at least 1. Received: 0"),
        ({"max_accuracy_drop": 1.0}, "max_accuracy_drop must be"),
        ({"train": iter([])}, "an iterator gives them once"),
        ({"train": []}, "no training pictures|too few"),
        ({"train": (np.zeros((1, SIDE, SIDE, 1)), np.zeros(1))}, "too few"),
        ({"train": (np.zeros((9, 4, 4, 1)), np.zeros(9))}, "takes a batch of shape"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    given = {"train": striped(20), "held_out": striped(20)} | arguments
    with pytest.raises(ValueError, match=message):
        EarlyExit.fit(maps(), **given)


def test_the_command_writes_a_model_that_export_takes(tmp_path, capsys):
    colorful_folders(tmp_path / "colors", 40)
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(x)
    x = layers.Conv2D(24, 3, padding="same", activation="relu", name="second")(x)
    x = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    keras.Model(inputs, x).save(tmp_path / "plain.keras")
    out = tmp_path / "out"
    words = ["exits", str(tmp_path / "plain.keras"), str(tmp_path / "colors")]
    words += ["--output", str(out), "--no-labels", "--confidence-level", "0.9"]
    assert keras_inception_cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "accuracy is agreement with main" in printed
    assert "of main's multiply-adds" in printed
    content = json.loads((out / "exits.json").read_text())
    assert content["calibration"]["confidence_level"] == 0.9
    assert content["thresholds"].keys() <= {"aux_first", "aux_second"}
    assert (out / "exits.png").read_bytes().startswith(b"\x89PNG")
    assert keras_inception_cli.main(words) == 1
    assert "already exists; pass --overwrite" in capsys.readouterr().err
    model, exits = str(out / "model.keras"), str(out / "exits.json")
    again = ["calibrate", model, str(tmp_path / "colors"), "--out", exits]
    assert keras_inception_cli.main(again) == 0
    assert "these are all pictures" in capsys.readouterr().out
    assert keras_inception_cli.main([*again, "--split", "validation"]) == 0
    assert "16 validation pictures: 8 choose" in capsys.readouterr().out
    words = ["export", model, "--early-exit", exits]
    words += ["--saved-models", str(tmp_path / "saved")]
    assert keras_inception_cli.main(words) == 0
    picture = next((tmp_path / "colors" / "red").iterdir())
    assert keras_inception_cli.main(["predict", model, str(picture)]) == 0
