"""Tests of the core on the backend of this process, `KERAS_BACKEND`.

`test_backends.py` runs this file once for each backend, in a process of its own, since
Keras's backend can't be changed. By hand:

    KERAS_BACKEND=jax python -m pytest tests/backend_checks.py
"""

import dataclasses
import importlib.abc
import math
import sys

import keras
import numpy as np
import pytest
from conftest import small_pictures, small_supervised

import keras_inception as ki
from keras_inception import training
from keras_inception.backend import gradients_of
from keras_inception.early_exit.checks import digest_of
from keras_inception.layers import MaxPooling
from keras_inception.training.on_features import ForWhole

BACKEND = keras.backend.backend()
LABELS = np.array([0, 1, 2, 0])


class NoTensorFlow(importlib.abc.MetaPathFinder):
    """Makes `import tensorflow` fail as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if BACKEND != "tensorflow":
    assert "tensorflow" not in sys.modules  # the core has not imported it
    sys.meta_path.insert(0, NoTensorFlow())


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return generator.uniform(0, 255, (4, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    """A GoogLeNet with two heads; JAX needs a minute to compile the whole network."""
    kept = ("conv1", "pool1", "inception_3a", "inception_4a", "inception_4d", "pool5")
    rows = {k: v for k, v in ki.GOOGLENET_SMALL.rows.items() if k.startswith(kept)}
    short = dataclasses.replace(ki.GOOGLENET_SMALL, rows=rows)
    model = ki.GoogLeNet((32, 32, 3), classes=3, width=0.0625, architecture=short)
    # A larger step would saturate the heads, whose confidence the exits need.
    model.compile(keras.optimizers.SGD(1e-4))
    return model


def test_a_step_changes_the_weights_and_the_loss_is_the_weighted_sum(model, images):
    before = model.get_weights()
    model.fit(images, LABELS, verbose=0, class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    after = model.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    logs = model.evaluate(images, LABELS, verbose=0, return_dict=True)
    expected = logs["main_loss"] + 0.3 * (logs["aux_4a_loss"] + logs["aux_4d_loss"])
    assert logs["loss"] == pytest.approx(expected, rel=1e-6)


class SilenceAfterOneEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.auxiliary_weights["aux_4a"].assign(float(epoch == 0))


def test_a_callback_changes_a_loss_weight(model, images):
    model.compile(keras.optimizers.SGD(0.0), loss_weights=0.3)
    history = model.fit(
        images, LABELS, verbose=0, epochs=2, callbacks=[SilenceAfterOneEpoch()]
    ).history
    for epoch, weight in enumerate((1.0, 0.0)):
        logs = {name: values[epoch] for name, values in history.items()}
        expected = (
            logs["main_loss"] + weight * logs["aux_4a_loss"] + 0.3 * logs["aux_4d_loss"]
        )
        assert logs["loss"] == pytest.approx(expected, rel=1e-6)


def test_heads_learn_mains_softened_answers(model, images, tmp_path):
    """The loss is that of the papers, computed by hand, and reaches no teacher."""
    model.compile(
        keras.optimizers.SGD(0.0), loss_weights=0.5, distillation=0.4, temperature=2.0
    )
    sample_weight = np.array([1.0, 2.0, 0.0, 0.5])
    answers = model.predict(images, verbose=0)
    soft = {name: answer**0.5 for name, answer in answers.items()}
    soft = {name: p / p.sum(-1, keepdims=True) for name, p in soft.items()}
    expected = 0.0
    for name, p in answers.items():
        by_example = -np.log(p[np.arange(4), LABELS])
        if name != "main":
            ratio = np.log(soft["main"] / soft[name])
            by_example += 0.4 * 2.0**2 * (soft["main"] * ratio).sum(-1)
        expected += (1.0 if name == "main" else 0.5) * (
            by_example * sample_weight
        ).mean()
    for again in (model, saved_and_loaded(model, tmp_path)):
        logs = again.evaluate(
            images, LABELS, sample_weight=sample_weight, verbose=0, return_dict=True
        )
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    rows = {(row.stage, row.loss): row for row in model_rows(model, images)}
    model.compile(keras.optimizers.SGD(0.0), loss_weights=0.5)
    for row in model_rows(model, images):
        other = rows[row.stage, row.loss]
        if row.loss == "main":
            assert row.norm == pytest.approx(other.norm, rel=1e-5)
        elif row.loss != "total" and row.norm:
            assert row.norm != pytest.approx(other.norm, rel=1e-3)


def saved_and_loaded(model, directory):
    model.save(directory / "distilled.keras")
    return keras.saving.load_model(directory / "distilled.keras")


def model_rows(model, images):
    return ki.gradient_flow(model, images, LABELS)


def test_multiply_adds_are_counted(model):
    assert sum(ki.multiply_adds(ki.detach_auxiliary(model)).values()) > 0


def test_a_saved_model_answers_alike(model, images, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.predict(images, verbose=0)
    for name, values in again.predict(images, verbose=0).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-6)


def test_a_head_inside_a_sub_model_is_saved_with_the_nested_model(tmp_path):
    x = inner_inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, name="conv1")(x)
    x = keras.layers.Conv2D(4, 3, name="conv2")(x + 1.0)
    inner = keras.Model(inner_inputs, x, name="backbone")
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(inner(inputs))
    plain = keras.Model(inputs, keras.layers.Dense(3, name="classes")(x))
    head = ki.AuxiliaryHead("backbone/conv1", units=4, filters=4)
    model = ki.attach_auxiliary(plain, [head])
    images, labels = small_pictures(4)
    before = keras.ops.convert_to_numpy(plain(images))
    model.compile(keras.optimizers.SGD(1e-4))
    model.fit(images, labels, verbose=0)
    answers = {n: keras.ops.convert_to_numpy(x) for n, x in model(images).items()}
    assert np.any(answers["main"] != before)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for name, values in again(images).items():
        values = keras.ops.convert_to_numpy(values)
        np.testing.assert_allclose(values, answers[name], atol=1e-6)
    detached = ki.detach_auxiliary(again)
    assert [layer.name for layer in detached.layers][1] == "backbone"
    values = keras.ops.convert_to_numpy(detached(images))
    np.testing.assert_allclose(values, answers["main"], atol=1e-6)


def gradients_by_backend(loss_of, model, images):
    """The gradients of `loss_of(outputs)`, by the backend's own means."""
    variables = model.trainable_variables
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of(model(images, training=False))
        return tape.gradient(loss, [v.value for v in variables])
    if BACKEND == "jax":
        import jax

        others = [v.value for v in model.non_trainable_variables]

        def loss(values):
            return loss_of(model.stateless_call(values, others, images)[0])

        return jax.grad(loss)([v.value for v in variables])
    model.zero_grad()
    loss_of(model(images, training=False)).backward()
    return [v.value.grad for v in variables]


@pytest.mark.parametrize("output", ["main", "aux_4a", "aux_4d"])
def test_gradient_norms_are_the_backends(model, images, output):
    def mean_loss(outputs):
        return keras.ops.mean(
            keras.losses.sparse_categorical_crossentropy(LABELS, outputs[output])
        )

    gradients = gradients_by_backend(mean_loss, model, images)
    by_variable = {
        id(v): gradient
        for v, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is not None
    }
    norms = {
        row.stage: row.norm
        for row in ki.gradient_flow(model, images, LABELS)
        if row.loss == output
    }
    stages = ki.gradients.weights_by_stage(model)
    assert norms.keys() == stages.keys()
    for stage, variables in stages.items():
        parts = [
            keras.ops.convert_to_numpy(by_variable[id(v)]).astype("float64")
            for v in variables
            if id(v) in by_variable
        ]
        norm = math.sqrt(sum((part**2).sum() for part in parts))
        assert norms[stage] == pytest.approx(norm, rel=1e-5, abs=1e-11), stage


def test_response_normalization_has_the_slope_of_its_formula():
    layer = ki.LocalResponseNormalization(size=3, alpha=0.5, beta=0.5, bias=2.0)
    x, direction, weights = np.random.default_rng(0).normal(size=(3, 2, 3, 3, 7))

    def total(x):
        return keras.ops.sum(layer(x) * keras.ops.convert_to_tensor(weights, "float32"))

    def exact(x):  # in float64, by the formula
        padded = np.pad(x**2, [(0, 0)] * 3 + [(1, 1)])
        energy = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
        return (x / (2.0 + 0.5 / 3 * energy) ** 0.5 * weights).sum()

    slope = (exact(x + 1e-5 * direction) - exact(x - 1e-5 * direction)) / 2e-5
    found = (keras.ops.convert_to_numpy(slope_of(total, x)) * direction).sum()
    assert found == pytest.approx(slope, rel=1e-5)


def slope_of(function, x):
    x = keras.ops.convert_to_tensor(x, "float32")
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)
    if BACKEND == "jax":
        import jax

        return jax.grad(function)(x)
    x.requires_grad_()
    function(x).backward()
    return x.grad


@pytest.mark.parametrize("output", ["main", "aux_4a"])
def test_activation_maps_are_the_backends_gradients(model, images, output):
    layer = {"main": "pool5_7x7_s1", "aux_4a": "aux_4a_ave_pool"}[output]
    endpoint, logits = model.get_layer(layer).input, f"{output}_classifier"
    tail = keras.Model(endpoint, model.get_layer(logits).output)
    features = keras.Model(model.input, endpoint)(images)
    features = keras.ops.convert_to_numpy(features)

    def score(x):
        one_hot = keras.ops.one_hot(LABELS, 3)
        return keras.ops.sum(tail(x, training=False) * one_hot)

    slopes = keras.ops.convert_to_numpy(slope_of(score, features))
    coarse = slopes.mean(axis=(1, 2), keepdims=True) * features
    coarse = np.maximum(coarse.sum(axis=-1, keepdims=True), 0)
    expected = keras.ops.image.resize(coarse, (32, 32), data_format="channels_last")
    expected = keras.ops.convert_to_numpy(expected)[..., 0]
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
    assert (expected.max(axis=(1, 2)) > 0).any()
    found = ki.activation_maps(model, images, LABELS)
    assert list(found) == ["main", "aux_4a", "aux_4d"]
    np.testing.assert_allclose(found[output], expected, atol=1e-4)


def test_early_exits_answer_as_their_heads(model, images):
    alone = model.predict(images, verbose=0)
    # each head is sure of half of the pictures
    thresholds = {h: float(np.median(alone[h].max(-1))) for h in model.heads}
    probabilities, exits = ki.EarlyExit(model, thresholds).predict(images)
    assert "aux_4a" in exits
    assert set(exits) != {"aux_4a"}
    for row, name in enumerate(exits):
        np.testing.assert_allclose(probabilities[row], alone[name][row], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_have_one_digest_on_all_backends(dtype):
    layers = [keras.layers.Dense(2, dtype=dtype), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.set_weights([np.arange(6).reshape(3, 2) / 8, np.ones(2)])
    before = digest_of(model)
    assert before.startswith("0d92753bc0e56831")
    model(np.ones((1, 3)), training=True)  # which moves dropout's generator
    assert digest_of(model) == before


def test_endpoints_are_ranked_and_exits_fitted():
    model, data = small_supervised(), small_pictures(40)
    plain = ki.detach_auxiliary(model)
    before = plain.get_weights()
    rows = ki.rank_endpoints(model, data, data)
    assert [row.endpoint for row in rows] == ["first", "second"]
    assert all(row.accuracy >= 1 / 3 and row.milliseconds > 0 for row in rows)
    assert all(row.gradient > 0 for row in rows)
    early = ki.EarlyExit.fit(plain, data, data[0], max_exits=1, labels=False)
    assert early.calibration.main.accuracy == 1
    for old, new in zip(before, plain.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    alone = early.model.predict(data[0], verbose=0)
    answers, exits = early.predict(data[0])
    for row, name in enumerate(exits):
        np.testing.assert_allclose(answers[row], alone[name][row], atol=1e-5)


def test_a_sequence_model_trains_with_a_head_and_answers_as_before():
    inputs = keras.Input((12, 2))
    x = keras.layers.LSTM(3, return_sequences=True, name="lstm")(inputs)
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x))
    plain = keras.Model(inputs, x)
    sequences = np.random.default_rng(0).normal(size=(4, 12, 2)).astype("float32")
    before = plain.predict(sequences, verbose=0)
    attached = ki.attach_auxiliary(plain, 1)
    assert attached.heads == ["aux_lstm"]
    attached.compile("sgd")
    again = ki.detach_auxiliary(attached).predict(sequences, verbose=0)
    np.testing.assert_array_equal(again, before)
    attached.fit(sequences, LABELS, verbose=0)
    assert (attached.predict(sequences, verbose=0)["main"] != before).any()


def test_gradients_are_logged_while_training(tmp_path, monkeypatch):
    if BACKEND != "tensorflow":
        assert "tensorflow" not in sys.modules
        # Event files are the exception: TensorFlow writes them.
        monkeypatch.setattr(sys, "meta_path", sys.meta_path[1:])
    model = small_supervised()
    seen = ki.GradientFlow(*small_pictures(4), tmp_path)
    model.fit(*small_pictures(), epochs=2, callbacks=[seen], verbose=0)
    now = ki.gradient_flow(model, *small_pictures(4))
    for row, other in zip(seen.rows, now, strict=True):
        assert row.norm == pytest.approx(other.norm, rel=1e-4, abs=1e-10)
    assert list(tmp_path.rglob("events.out.*"))


def test_losses_add_up_to_the_way_of_the_weights():
    model = small_supervised(dropout=0.5)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.01))
    images, labels = small_pictures()
    account = ki.LossAttribution()
    options = {"batch_size": 4, "epochs": 2, "verbose": 0, "callbacks": [account]}
    if BACKEND == "torch":
        with pytest.raises(ValueError, match="TensorFlow and JAX backends"):
            model.fit(images, labels, **options)
        return
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.fit(images, labels, **options)
    state = account.state()
    for position, variable in enumerate(model.trainable_variables):
        moved = keras.ops.convert_to_numpy(variable) - before[position]
        parts = sum(
            state[name]
            for loss in ("main", "aux", "weight_decay")
            if (name := f"moved_{loss}_{position}") in state
        )
        assert np.linalg.norm(parts - moved) <= 1e-4 * np.linalg.norm(moved)
    assert account.rows[0].loss == "main"
    assert account.rows[0].share != 0
    resumed = ki.LossAttribution(state=state)
    model.fit(images, labels, **options | {"callbacks": [resumed], "epochs": 1})
    assert resumed.rows != account.rows


@pytest.mark.parametrize(("side", "size", "stride"), [(8, 3, 1), (7, 3, 2), (5, 7, 2)])
def test_max_pools_and_their_gradients_equal_kerass(side, size, stride):
    x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype("float32")
    x[0, 1, 1, 1] = np.nan
    ours = MaxPooling(size, stride, padding="same")
    plain = keras.layers.MaxPooling2D(size, stride, padding="same")
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (ours(x), plain(x))))
    restored = keras.layers.deserialize(keras.layers.serialize(ours))
    assert type(restored) is MaxPooling
    assert restored.get_config() == ours.get_config()

    def gradient(layer):
        def loss(values):
            return [keras.ops.sum(keras.ops.sin(layer(values[0])) * weights)]

        value = keras.ops.convert_to_tensor(np.nan_to_num(x))
        (result,) = next(gradients_of(loss, [value]))
        return keras.ops.convert_to_numpy(result)

    rows = np.arange(plain(x).shape[1], dtype="float32")[:, None, None]
    weights = keras.ops.convert_to_tensor(rows)
    expected = gradient(plain)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(gradient(ours), expected, atol=1e-5)


def test_training_on_features_trains_the_whole_model():
    images, labels = small_pictures()
    model = small_supervised()
    model.get_layer("first").trainable = False
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    split = ki.split_frozen(model)
    features = split.features([(images[:8], labels[:8]), (images[8:], labels[8:])])
    answers = split.rest.predict(features.arrays, verbose=0)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(answers["aux"], expected["aux"], atol=1e-6)

    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.auxiliary_weights["aux"].assign(float(epoch == 0))

        def on_epoch_end(self, epoch, logs=None):
            layers = (self.model.get_layer(name) for name in ("main", "aux_fc"))
            seen.append([layer.get_weights()[0] for layer in layers])

    training.compile_rest(model, split.rest)
    batches = training.FeatureBatches([features], batch_size=4)
    whole = ForWhole(model, [Watch()], batches)
    split.rest.fit(batches, epochs=3, verbose=0, callbacks=[whole])
    mains, heads = zip(*seen, strict=True)
    assert not np.allclose(mains[0], mains[1])
    # at a loss weight of 0 the momentum alone moves the head
    expected = 0.9**3 * (heads[1] - heads[0])
    np.testing.assert_allclose(heads[2] - heads[1], expected, atol=1e-6)
    np.testing.assert_array_equal(model.get_layer("main").get_weights()[0], mains[2])
    assert model.optimizer.iterations == 9
