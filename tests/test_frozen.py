"""Training on a frozen trunk's features is the same training, without the trunk."""

import shutil

import keras
import numpy as np
import pytest
from conftest import CLASSES, small_pictures
from keras import layers

import keras_inception as ki
from keras_inception.supervision import compute_features, supervise
from keras_inception.training import FeatureBatches


def network(between=(), dropout=0.5, frozen=("one", "one_bn")):
    """Two convolutions on 8x8 pictures, a head after the first, dropout before main."""
    images = keras.Input((8, 8, 3), name="images")
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(4, 3, name="one")(x)
    x = one = layers.BatchNormalization(name="one_bn")(x)
    for layer in between:
        x = layer(x)
    x = layers.Conv2D(8, 3, activation="relu", name="two")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="drop")(x)
    main = layers.Dense(CLASSES, activation="softmax", name="main")(x)
    head = ki.AuxiliaryHead("one", "aux", filters=4, units=8, dropout=dropout)
    model = supervise(images, main, {"one": one}, [head])
    for name in frozen:
        model.get_layer(name).trainable = False
    return model


def shapes(split):
    return [tuple(tensor.shape[1:]) for tensor in split.trunk.outputs]


def in_batches(images, labels, size=4):
    starts = range(0, len(images), size)
    return [(images[at : at + size], labels[at : at + size]) for at in starts]


# what `two` reads; the head's pool of it is computed anew
WHOLE = [(6, 6, 4)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, WHOLE),
        ({"frozen": ("one", "one_bn", "two")}, [(8,), (1, 1, 4)]),
        # a batch normalization that learns nothing still uses the batch's statistics
        ({"frozen": ("one",)}, WHOLE),
        ({"between": [layers.Dropout(0.0)]}, WHOLE),
        ({"between": [layers.Dropout(0.1)]}, WHOLE),
        ({"between": [layers.RandomFlip()]}, WHOLE),
        ({"between": [layers.MaxPooling2D(2)]}, [(3, 3, 4), (1, 1, 4)]),
        ({"between": [layers.ZeroPadding2D(2)]}, WHOLE),
        ({"between": [layers.MaxPooling2D(3, 1, "same")]}, WHOLE),
    ],
)
def test_the_split_is_where_features_are_smallest(arguments, expected):
    model = network(**arguments)
    split = ki.split_frozen(model)
    assert shapes(split) == expected
    sizes = [4 * int(np.prod(shape)) for shape in expected]
    assert split.bytes_per_example == sum(sizes)
    assert [id(v) for v in split.rest.trainable_variables] == [
        id(v) for v in model.trainable_variables
    ]
    images, labels = small_pictures()
    features = split.features(in_batches(images, labels))
    assert np.array_equal(features.labels, labels)
    answers = split.rest.predict(features.arrays, verbose=0)
    for name, expected in model.predict(images, verbose=0).items():
        np.testing.assert_allclose(answers[name], expected, atol=1e-6)


def test_a_frozen_dropout_is_on_in_training_unless_asked_otherwise():
    frozen = ("one", "one_bn", "two", "drop")
    model = network(frozen=frozen)
    assert shapes(ki.split_frozen(model)) == [(8,), (1, 1, 4)]
    rest = ki.split_frozen(model, at_inference=True).rest
    assert "drop" not in [layer.name for layer in rest.layers]
    assert "aux_drop_fc" in [layer.name for layer in rest.layers]
    model.get_layer("main").trainable = False  # an exit's head on a finished model
    split = ki.split_frozen(model, at_inference=True)
    assert list(split.rest.output) == ["main", "aux"]


def test_an_open_dropout_or_mask_ends_the_trunk():
    for first in (layers.Dropout(0.1), layers.Masking()):
        inputs = keras.Input((5, 4))
        x = layers.Dense(3, trainable=False, name="fixed")(inputs)
        x = layers.LSTM(2, trainable=False)(first(x))
        model = keras.Model(inputs, layers.Dense(2, name="last")(x))
        assert shapes(ki.split_frozen(model)) == [(5, 3)]


def test_faults_are_named():
    with pytest.raises(ValueError, match="No layer with weights is frozen"):
        ki.split_frozen(network(frozen=()))
    with pytest.raises(ValueError, match="functional"):
        ki.split_frozen(keras.Sequential([layers.Dense(2)]))
    trunk = ki.split_frozen(network()).trunk
    with pytest.raises(ValueError, match="no batch"):
        compute_features(trunk, [])
    images, labels = small_pictures()
    with pytest.raises(ValueError, match="sample weights"):
        compute_features(trunk, [(images, labels, labels)])


def test_too_little_room_is_said_before_the_work(monkeypatch):
    images, labels = small_pictures()
    batches = in_batches(images, labels)
    usage = shutil.disk_usage("/")._replace(free=2000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    seen = []

    class Counted(list):
        def __iter__(self):
            for batch in super().__iter__():
                seen.append(batch)
                yield batch

    split = ki.split_frozen(network())
    with pytest.raises(OSError, match="TMPDIR"):
        split.features(Counted(batches))
    assert len(seen) == 1


def test_training_on_features_is_training_on_pictures(tmp_path):
    """Dropout, weights, optimizer and logs agree, epoch by epoch."""
    images, labels = small_pictures()
    model = network()
    keras.utils.set_random_seed(7)  # as before the first: dropout draws alike
    other = network()
    split = ki.split_frozen(other)
    features = split.features(in_batches(images, labels))
    logs = []
    for trained, inputs in ((model, images), (split.rest, features.arrays)):
        trained.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss_weights=0.5)
        arguments = {"epochs": 3, "batch_size": 4, "verbose": 0, "shuffle": False}
        history = trained.fit(inputs, labels, class_weight={0: 2.0}, **arguments)
        logs.append(history.history)
    assert logs[0].keys() == logs[1].keys()
    for name, values in logs[0].items():
        np.testing.assert_allclose(values, logs[1][name], rtol=1e-4, err_msg=name)
    other.save(tmp_path / "whole.keras")
    loaded = keras.saving.load_model(tmp_path / "whole.keras")
    answers = loaded.predict(images, verbose=0)
    for name, expected in model.predict(images, verbose=0).items():
        np.testing.assert_allclose(answers[name], expected, rtol=1e-3, atol=1e-5)


def test_batches_go_through_the_passes_and_then_through_new_orders():
    passes = [
        ki.supervision.Features([np.arange(10.0) + 100 * k], np.arange(10))
        for k in range(2)
    ]
    batches = FeatureBatches(passes, batch_size=4, seed=3)

    def epoch(number):
        batches.start(number)
        return np.concatenate([features[0] for features, _ in batches])

    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert np.array_equal(epoch(0), np.arange(10))
    assert np.array_equal(epoch(1), np.arange(10) + 100)
    third, fifth = epoch(2), epoch(4)
    assert sorted(third) == sorted(fifth) == list(range(10))
    assert not np.array_equal(third, fifth)
    assert np.array_equal(third, epoch(2))
    assert all(np.array_equal(x[0] % 100, labels) for x, labels in batches)
