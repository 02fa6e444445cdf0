"""Ranking endpoints: probes in closed form, their costs, and the command."""

import csv

import keras
import numpy as np
import pytest
from conftest import colorful_folders, small_pictures, small_supervised
from keras import layers

import keras_inception as ki
import keras_inception_cli
from keras_inception.endpoints.costs import relative_gradients
from keras_inception.endpoints.features import PooledFeatures
from keras_inception.endpoints.probes import PENALTIES, Sums, fit_probe
from keras_inception.endpoints.ranking import (
    JudgedProbes,
    find_endpoints,
    fit_probes,
    measure_endpoints,
)


def examples(count=60, features=5, classes=3, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    means = np.random.default_rng(9).normal(0, 1, (classes, features))
    return means[labels] + random.normal(0, 1, (count, features)), labels


def sums_of(x, labels, classes=3, size=7):
    sums = Sums(x[:size].mean(0), classes)
    for start in range(0, len(x), size):
        one_hot = np.eye(classes)[labels[start : start + size]]
        sums.add(x[start : start + size], one_hot)
    return sums


def test_a_probe_is_the_ridge_regression_of_the_whole_data():
    x, labels = examples()
    x = x * [1, 10, 0.1, 1, 1] + 1e4  # far from zero, of different sizes
    x[:, 4] = 7.0  # constant
    z = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    y = np.eye(3)[labels]
    for penalty in PENALTIES:
        regular = z.T @ z / len(z) + penalty * np.eye(5)
        expected = z @ np.linalg.solve(regular, z.T @ (y - y.mean(0)) / len(z))
        probe = sums_of(x, labels).ridge(penalty)
        np.testing.assert_allclose(probe.scores(x), expected + y.mean(0), atol=1e-7)
        other_x, other_labels = examples(seed=1)
        other = sums_of(other_x, other_labels)
        loop = np.sum((probe.scores(other_x) - np.eye(3)[other_labels]) ** 2)
        assert other.squared_error(probe) == pytest.approx(loop)


def test_the_penalty_is_the_one_that_predicts_the_pictures_held_back():
    x, labels = examples(30, features=40)
    other_x, other_labels = examples(400, features=40, seed=1)
    learned, held_back = sums_of(x, labels), sums_of(other_x, other_labels)
    errors = [held_back.squared_error(learned.ridge(p)) for p in PENALTIES]
    best = PENALTIES[int(np.argmin(errors))]
    assert best != PENALTIES[0]  # so few examples need a penalty
    probe = fit_probe(learned, held_back)
    expected = (learned + held_back).ridge(best)
    np.testing.assert_array_equal(probe.weights, expected.weights)


def striped(count=48, seed=0):
    """Pictures whose class is their stripes' direction; single pixels can't tell."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    phase = random.integers(0, 2, count)
    rows = (np.arange(8)[:, None] + phase[:, None, None]) % 2 * np.ones((1, 8))
    pictures = np.where(labels[:, None, None], rows, rows.transpose(0, 2, 1))
    return pictures[..., None].astype("float32"), labels


def classifier(activation="softmax"):
    """A convolution that sees directions, and a second one."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(1, 1, name="pixels", activation="relu")(inputs)
    x = layers.Conv2D(6, 2, name="edges")(x)
    x = layers.ReLU(name="edges_relu")(x)
    x = layers.Conv2D(4, 1, name="mixed", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(x))
    model = keras.Model(inputs, layers.Dense(2, activation=activation)(x))
    model.get_layer("pixels").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    kernels = np.zeros((2, 2, 1, 6))
    kernels[..., 0, 0] = [[1, -1], [1, -1]]
    kernels[..., 0, 1] = [[1, 1], [-1, -1]]
    model.get_layer("edges").set_weights([kernels, np.zeros(6)])
    return model


@pytest.mark.parametrize("activation", ["softmax", None])
def test_rows_tell_what_the_features_hold_and_cost(activation):
    model = classifier(activation)
    before = model.get_weights()
    images, labels = striped()
    ranking = measure_endpoints(model, (images, labels), striped(seed=1))
    rows = ranking.rows
    assert [row.endpoint for row in rows] == ["pixels", "edges_relu", "mixed"]
    by_name = {row.endpoint: row for row in rows}
    assert by_name["edges_relu"].accuracy == 1
    assert by_name["pixels"].accuracy < 0.9
    rest = ranking.main.multiply_adds - (64 + 24 * 49)
    saving = by_name["edges_relu"].saving  # it is always right: all may leave
    assert saving == pytest.approx(rest / ranking.main.multiply_adds)
    assert [row.multiply_adds for row in rows] == [64, 64 + 24 * 49, 64 + 48 * 49]
    assert ranking.main.multiply_adds == 64 + 48 * 49 + 8
    assert all(row.milliseconds > 0 for row in [*rows, ranking.main])
    assert all(row.gradient > 0 for row in rows[1:])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_gradient_is_that_of_the_probe_as_a_head():
    """Beside Keras's training step on a model whose head is the probe."""
    model = classifier()
    train, (images, labels) = striped(), striped(count=32, seed=1)
    model, main, endpoints = find_endpoints(model)
    features = PooledFeatures(model, main, endpoints)
    probes = fit_probes(model, features, train)
    tensors = [endpoint.tensor for endpoint in endpoints]
    heads = [(probe, 3.0) for probe in probes]
    found = relative_gradients(features, tensors, heads, images, labels)
    x = layers.AdaptiveAveragePooling2D(4)(tensors[-1])
    head = layers.Dense(2, activation="softmax", name="head")
    x = head(layers.Flatten()(x))
    graph = keras.Model(model.inputs, {"main": main, "head": x})
    head.set_weights([3 * probes[-1].weights, 3 * probes[-1].bias])
    rows = ki.gradient_flow(graph, images, {"main": labels, "head": labels})
    before = {
        loss: np.sqrt(
            sum(
                row.norm**2
                for row in rows
                if row.loss == loss and row.stage in ("pixels", "edges", "mixed")
            )
        )
        for loss in ("main", "head")
    }
    assert found[-1] == pytest.approx(before["head"] / before["main"], rel=1e-4)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.zeros_like(kernel), bias])
    assert relative_gradients(features, tensors, heads, images, labels)[-1] is None
    model.layers[-1].set_weights([kernel, bias])
    model.trainable = False
    (*_, frozen) = ki.rank_endpoints(model, train, (images, labels))
    assert frozen.gradient is None


def test_the_share_that_may_leave_counts_what_a_loop_counts():
    random = np.random.default_rng(0)
    for drop in (0.0, 0.02, 0.3):
        correct, main = random.random((1, 50)) < 0.7, random.random(50) < 0.8
        margins = np.round(random.random((1, 50)), 3)
        judged = JudgedProbes(correct, margins, main, *[np.zeros(1)] * 3)
        best = 0
        for count in range(51):
            leaves = np.argsort(-margins[0], kind="stable")[:count]
            answers = main.copy()
            answers[leaves] = correct[0, leaves]
            if main.mean() - answers.mean() <= drop + 1e-12:
                best = count
        assert judged.share_leaving(0, drop) == best / 50


def sequences():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 4)(inputs)
    x = layers.Conv1D(5, 3, activation="relu", name="words")(x)
    x = layers.Conv1D(5, 3, activation="relu", name="phrases")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3)(x)), ["words", "phrases"]


def vectors():
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", name="one")(inputs)
    twice = layers.Dense(8, activation="relu", name="twice")
    x = twice(twice(x))
    return keras.Model(inputs, layers.Dense(3)(x)), ["one", "twice"]


def residual():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    inside = layers.Conv2D(4, 3, padding="same", name="inside")(x)
    x = layers.Add(name="sum")([x, inside])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x)), ["stem", "sum"]


@pytest.mark.parametrize("build", [sequences, vectors, residual])
def test_other_networks(build):
    model, endpoints = build()
    shape = model.input_shape[1:]
    random = np.random.default_rng(0)
    images = random.integers(0, 9, (24, *shape)).astype(model.input.dtype)
    data = images, np.eye(3)[np.arange(24) % 3]  # one-hot
    rows = ki.rank_endpoints(model, data, data)
    assert [row.endpoint for row in rows] == endpoints
    heads = [ki.AuxiliaryHead(e, units=2, filters=2) for e in endpoints]
    assert len(ki.attach_auxiliary(model, heads).heads) == len(endpoints)
    # batch by batch, from a generator: the same
    batches = [(images[i : i + 5], data[1][i : i + 5]) for i in range(0, 24, 5)]
    again = ki.rank_endpoints(model, iter(batches), iter(batches))
    for one, other in zip(rows, again, strict=True):
        assert one.accuracy == pytest.approx(other.accuracy, abs=0.05)
        assert one.multiply_adds == other.multiply_adds


def test_heads_do_not_matter():
    model, data = small_supervised(), small_pictures()
    for row in (
        ki.rank_endpoints(m, data, data) for m in (model, ki.detach_auxiliary(model))
    ):
        assert [one.endpoint for one in row] == ["first", "second"]
        assert [one.multiply_adds for one in row] == [192 * 6, 192 * 6 + 30]
        assert [one.share for one in row] == pytest.approx([1152 / 1197, 1182 / 1197])


X, Y = np.zeros((4, 8, 8, 1)), np.zeros(4, int)


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ([], (X, Y), "no training pictures"),
        ((X, Y), [], "no held-out pictures"),
        ((X[..., 0], Y), (X, Y), r"takes a batch of shape \(None, 8, 8, 1\)"),
        ((X, Y + 2), (X, Y), r"classes 0 to 1\. Received the labels: 2"),
        ((X, Y - 1), (X, Y), r"Received the labels: -1"),
        ((X, Y + 0.5), (X, Y), r"Received the labels: 0\.5"),
        ([(X, Y[:3])], (X, Y), "4 pictures and 3 labels"),
        ((X, np.eye(5)[Y]), (X, Y), r"one-hot \(batch, 2\)"),
    ],
)
def test_wrong_data_is_refused(train, held_out, message):
    with pytest.raises(ValueError, match=message):
        ki.rank_endpoints(classifier(), train, held_out)


def test_wrong_models_are_refused():
    one, two = keras.Input((4,)), keras.Input((4,))
    both = keras.Model([one, two], layers.Dense(2)(layers.Add()([one, two])))
    shallow = keras.Model(one, layers.Dense(2)(one))
    for model, message in ((both, "one input"), (shallow, "no endpoint for a head")):
        with pytest.raises(ValueError, match=message):
            ki.rank_endpoints(model, [], [])
    with pytest.raises(ValueError, match="functional"):
        ki.rank_endpoints(keras.Sequential(), [], [])
    model, data = residual()[0], (np.full((4, 8, 8, 3), np.nan), Y)
    with pytest.raises(ValueError, match="NaN or infinite"):
        ki.rank_endpoints(model, data, data)


def test_the_command_prints_and_writes(tmp_path, capsys):
    colorful_folders(tmp_path / "colors", 8)
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(inputs)
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="second")(x)
    x = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    keras.Model(inputs, x).save(tmp_path / "model.keras")
    words = ["endpoints", str(tmp_path / "model.keras"), str(tmp_path / "colors")]
    words += ["--output", str(tmp_path / "report"), "--pictures", "10"]
    assert keras_inception_cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "10 training pictures fit the probes, 4 validation" in printed
    assert "not yet measured whether this ranking foretells trainings" in printed
    with (tmp_path / "report" / "endpoints.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["endpoint"] for row in rows] == ["first", "second", "main"]
    assert float(rows[0]["accuracy"]) == 1  # red and blue
    assert (tmp_path / "report" / "endpoints.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    assert keras_inception_cli.main([*words[:3], "--output", str(tmp_path / "file")])
    assert "is a file" in capsys.readouterr().err
