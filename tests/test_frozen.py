"""Training on a frozen trunk's features is the same training, without the trunk."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES, small_pictures
from keras import layers
from test_runs import Slow, assert_equal_runs

import keras_inception as ki
import keras_inception_cli
from keras_inception import training
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


# what `two` reads, and the head's pool unless `two` reads what the head pools
WHOLE, POOLED = [(6, 6, 4)], [(1, 1, 4), (6, 6, 4)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, WHOLE),
        ({"frozen": ("one", "one_bn", "two")}, [(1, 1, 4), (8,)]),
        # a batch normalization that learns nothing still uses the batch's statistics
        ({"frozen": ("one",)}, WHOLE),
        ({"between": [layers.Dropout(0.0)]}, POOLED),
        ({"between": [layers.Dropout(0.1)]}, WHOLE),
        ({"between": [layers.RandomFlip()]}, WHOLE),
        ({"between": [layers.MaxPooling2D(2)]}, [(1, 1, 4), (3, 3, 4)]),
        ({"between": [layers.ZeroPadding2D(2)]}, WHOLE),
        ({"between": [layers.MaxPooling2D(3, 1, "same")]}, POOLED),
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


def test_a_trunk_in_bfloat16_is_split_alike():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy("float32")
    split = ki.split_frozen(model)
    assert shapes(split) == WHOLE
    assert split.bytes_per_example == 2 * 6 * 6 * 4
    images, labels = small_pictures()
    answers = split.rest.predict(
        split.features(in_batches(images, labels)).arrays, verbose=0
    )
    for name, expected in model.predict(images, verbose=0).items():
        np.testing.assert_allclose(answers[name], expected, atol=0.01)


def test_a_frozen_dropout_is_on_in_training_unless_asked_otherwise():
    frozen = ("one", "one_bn", "two", "drop")
    model = network(frozen=frozen)
    assert shapes(ki.split_frozen(model)) == [(1, 1, 4), (8,)]
    rest = ki.split_frozen(model, at_inference=True).rest
    assert "drop" not in [layer.name for layer in rest.layers]
    assert "aux_drop_fc" in [layer.name for layer in rest.layers]
    model.get_layer("main").trainable = False  # an exit's head on a finished model
    split = ki.split_frozen(model, at_inference=True)
    assert list(split.rest.output) == ["main", "aux"]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [(layers.Dropout(0.1), [(5, 3)]), (layers.Masking(), [(5, 3), (5,)])],
)
def test_a_dropout_or_mask_ends_the_trunk(layer, expected):
    inputs = keras.Input((5, 4))
    x = layers.Dense(3, activation="relu", trainable=False, name="fixed")(inputs)
    x = layers.LSTM(2, trainable=False)(layer(x))
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    split = ki.split_frozen(model)
    assert shapes(split) == expected
    values = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")
    values[:, 3:] = 0
    answers = split.rest.predict(split.features([values]).arrays, verbose=0)
    expected = model.predict(values, verbose=0)
    np.testing.assert_allclose(answers, expected, atol=1e-6)


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
    optimizer = keras.optimizers.SGD
    for one in (model, other):
        one.compile(optimizer(0.1, 0.9), loss_weights=0.5, distillation=0.5)
    training.compile_rest(other, split.rest)
    arguments = {"epochs": 3, "batch_size": 4, "verbose": 0, "shuffle": False}
    arguments["class_weight"] = {0: 2.0}
    logs = [
        trained.fit(inputs, labels, **arguments).history
        for trained, inputs in ((model, images), (split.rest, features.arrays))
    ]
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


def train_on(directory, stop_in=None, epochs=5):
    """Starts or resumes a run on features, with all that must survive a kill."""
    tf.config.experimental.enable_op_determinism()  # as the command does
    run = training.RunDirectory(directory)
    if not run.config.exists():
        run = training.RunDirectory.create(directory)
    model, state = run.checkpoint() or (None, None)
    if model is None:
        keras.utils.set_random_seed(3)
        model = network()
        recipe = training.RECIPES["paper"]  # averages the weights
        model.compile(training.optimizer(recipe, epochs, 3), loss_weights=0.4)
    split = ki.split_frozen(model)
    images, labels = small_pictures()
    passes = [
        split.features(in_batches(pictures, labels))
        for pictures in (images, images[:, :, ::-1])
    ]
    training.compile_rest(model, split.rest)
    training.train(
        model,
        FeatureBatches(passes, batch_size=4),
        FeatureBatches(passes[:1], batch_size=6),
        run,
        config=training.RunConfig("small", epochs, ("one",)),
        callbacks=[
            training.AuxiliarySchedule("linear", {"aux": 0.4}),
            training.TensorBoard(run.tensorboard, images, labels, {"seed": 3}),
            ki.GradientFlow(images, labels, run.tensorboard),
            Slow(0.0, stop_in),
        ],
        state=state,
        rest=split.rest,
    )
    return run


def test_an_interrupted_run_on_features_resumes_exactly(tmp_path):
    whole = train_on(tmp_path / "whole")
    for stop_in in (2, 7):
        with pytest.raises(KeyboardInterrupt):
            train_on(tmp_path / "again", stop_in)
    assert_equal_runs(whole, train_on(tmp_path / "again"))
    # what it keeps is the whole model, compiled, at the weight of its epoch
    latest, state = whole.checkpoint()
    assert latest.input_shape == (None, 8, 8, 3)
    weight = float(latest.auxiliary_weights["aux"].numpy())
    assert weight == pytest.approx(0.4 / 5)
    images, labels = small_pictures()
    best = keras.saving.load_model(whole.model)
    logs = best.evaluate(images, labels, verbose=0, return_dict=True)
    assert logs["main_accuracy"] == pytest.approx(state["best"]["value"])
    assert whole.read_result()["val_main_accuracy"] == state["best"]["value"]


def test_a_callback_stops_the_training(tmp_path):
    model = network()
    model.compile("sgd")
    split = ki.split_frozen(model)
    training.compile_rest(model, split.rest)
    features = [split.features(in_batches(*small_pictures()))]
    batches, run = FeatureBatches(features, 4), training.RunDirectory(tmp_path / "run")

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    result = training.train(
        model,
        batches,
        batches,
        run.create(run.path),
        config=training.RunConfig("small", 9, ("one",)),
        callbacks=[Stop()],
        rest=split.rest,
    )
    assert result["epochs"] == 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A directory of runs, with a network to start from."""
    runs = tmp_path_factory.mktemp("runs")
    options = {"width": 0.0625, "batch_norm": True}
    model = ki.GoogLeNet((32, 32, 3), 4, architecture=ki.GOOGLENET_SMALL, **options)
    model.save(runs / "first.keras")
    return runs


def command(*words):
    return keras_inception_cli.main([str(word) for word in words])


def fine_tune(runs, colors, name, *words):
    """Trains new heads and a new classifier on the network's trunk."""
    words = [
        "--weights",
        runs / "first.keras",
        "--freeze",
        "inception_5b",
        "--seed",
        4,
        *words,
    ]
    words += ["--runs", runs, "--name", name, "--batch-size", 8, "--epochs", 3]
    return command("train", colors, *words)


def rows_of(run):
    with (run / "history.csv").open() as file:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
def test_the_command_learns_from_features(runs, colors, capsys):
    assert fine_tune(runs, colors, "kept") == 0
    printed = capsys.readouterr().out
    assert "features of the frozen trunk: 3 augmented copies" in printed
    config = json.loads((runs / "kept/config.json").read_text())
    assert config["feature_copies"] == 3
    figures = runs / "figures.json"
    assert (
        command("evaluate", runs / "kept/model.keras", colors, "--json", figures) == 0
    )
    best = json.loads((runs / "kept/result.json").read_text())["val_main_accuracy"]
    assert json.loads(figures.read_text())["main_accuracy"] == pytest.approx(best)


@pytest.mark.slow
def test_a_copy_for_each_epoch_gives_the_training_on_pictures(runs, colors):
    assert fine_tune(runs, colors, "copies", "--feature-copies", 3) == 0
    assert fine_tune(runs, colors, "anew", "--feature-copies", 0) == 0
    rows = zip(rows_of(runs / "copies"), rows_of(runs / "anew"), strict=True)
    for row, expected in rows:
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--mixed-precision", "bfloat16"]], ids=str)
def test_an_interrupted_command_resumes_exactly(runs, colors, monkeypatch, option):
    begin = training.Progress.on_epoch_begin

    def interrupt(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 2:
            raise KeyboardInterrupt

    words = ["--feature-copies", 2, "--gradients", "--class-weights", "balanced"]
    names = [f"{name}{''.join(option)}" for name in ("whole", "again")]
    assert fine_tune(runs, colors, names[0], *words, *option) == 0
    with monkeypatch.context() as patch:
        patch.setattr(training.Progress, "on_epoch_begin", interrupt)
        assert fine_tune(runs, colors, names[1], *words, *option) == 130
    assert command("train", "--runs", runs, "--name", names[1], "--resume") == 0
    assert_equal_runs(*(training.RunDirectory(runs / name) for name in names))


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--feature-copies", 2, "--attribution"], "--attribution follows"),
        (["--feature-copies", -1], "must be at least 0"),
    ],
)
def test_the_command_refuses_what_features_cannot_do(
    runs, colors, capsys, words, fault
):
    assert fine_tune(runs, colors, "refused", *words) == 1
    assert fault in capsys.readouterr().err
    assert command("train", colors, "--feature-copies", 2) == 1
    assert "add --freeze" in capsys.readouterr().err
