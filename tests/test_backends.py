"""The core on every backend, in processes of their own: a backend can't be changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN_A_STEP = """
import dataclasses, sys
import keras, numpy as np
import keras_inception as ki

assert keras.backend.backend() == {backend!r}
# compiling the whole network for JAX takes more than a minute
kept = ("conv1", "pool1", "inception_3a", "inception_4a", "inception_4d", "pool5")
rows = {{k: v for k, v in ki.GOOGLENET_SMALL.rows.items() if k.startswith(kept)}}
short = dataclasses.replace(ki.GOOGLENET_SMALL, rows=rows)
model = ki.GoogLeNet((32, 32, 3), classes=3, width=0.0625, architecture=short)
model.compile(keras.optimizers.SGD(0.01))
images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
labels = np.array([0, 1, 2, 0])
before = [w.copy() for w in model.get_weights()]
model.fit(images, labels, verbose=0, class_weight={{0: 1.0, 1: 2.0, 2: 0.5}})
assert any((a != b).any() for a, b in zip(before, model.get_weights()))

logs = model.evaluate(images, labels, verbose=0, return_dict=True)
expected = logs["main_loss"] + 0.3 * (logs["aux_4a_loss"] + logs["aux_4d_loss"])
assert abs(logs["loss"] - expected) < 1e-6 * max(1, expected), (logs, expected)

class Silence(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.auxiliary_weights["aux_4a"].assign(float(epoch == 0))

model.compile(keras.optimizers.SGD(0.0), loss_weights=0.3)
logs = model.fit(images, labels, verbose=0, epochs=2, callbacks=[Silence()]).history
second = logs["main_loss"][1] + 0.3 * logs["aux_4d_loss"][1]
assert abs(logs["loss"][1] - second) < 1e-6 * max(1, second), logs
first = logs["main_loss"][0] + logs["aux_4a_loss"][0] + 0.3 * logs["aux_4d_loss"][0]
assert abs(logs["loss"][0] - first) < 1e-6 * max(1, first), logs

sum(ki.multiply_adds(ki.detach_auxiliary(model)).values())
if {backend!r} != "tensorflow":
    assert "tensorflow" not in sys.modules

model.save({path!r})
again = keras.saving.load_model({path!r})
a, b = model.predict(images, verbose=0), again.predict(images, verbose=0)
for name in ("main", "aux_4a", "aux_4d"):
    np.testing.assert_allclose(a[name], b[name], atol=1e-6)
"""

GRADIENTS = """
import math

rows = {{(row.stage, row.loss): row for row in ki.gradient_flow(model, images, labels)}}

def mean_loss(name, outputs):
    losses = keras.losses.sparse_categorical_crossentropy(labels, outputs[name])
    return keras.ops.mean(losses)

def slow(name):
    backend, variables = {backend!r}, model.trainable_variables
    if backend == "tensorflow":
        import tensorflow as tf
        with tf.GradientTape() as tape:
            loss = mean_loss(name, model(images, training=False))
        return tape.gradient(loss, [v.value for v in variables])
    if backend == "jax":
        import jax
        others = [v.value for v in model.non_trainable_variables]
        def loss(values):
            return mean_loss(name, model.stateless_call(values, others, images)[0])
        return jax.grad(loss)([v.value for v in variables])
    model.zero_grad()
    mean_loss(name, model(images, training=False)).backward()
    return [v.value.grad for v in variables]

stages = ki.gradients.weights_by_stage(model)
for name in model.output:
    of = {{id(v): g for v, g in zip(model.trainable_variables, slow(name))}}
    for stage, variables in stages.items():
        parts = [keras.ops.convert_to_numpy(of[id(v)]) for v in variables
                 if of[id(v)] is not None]
        squares = [float((part.astype("float64") ** 2).sum()) for part in parts]
        norm = math.sqrt(sum(squares))
        found = rows[stage, name].norm
        assert abs(found - norm) <= 1e-5 * max(norm, 1e-6), (stage, name, found, norm)
"""

WHILE_TRAINING = """
sys.path.insert(0, {tests!r})
from conftest import small_pictures, small_supervised

model = small_supervised()
seen = ki.GradientFlow(*small_pictures(4), {path!r} + ".logs")
model.fit(*small_pictures(), epochs=2, callbacks=[seen], verbose=0)
now = ki.gradient_flow(model, *small_pictures(4))
for row, other in zip(seen.rows, now, strict=True):
    assert abs(row.norm - other.norm) <= 1e-4 * max(other.norm, 1e-6), (row, other)
"""

RESPONSE_NORMALIZATION = """
layer = ki.LocalResponseNormalization(size=3, alpha=0.5, beta=0.5, bias=2.0)
x, direction, weights = np.random.default_rng(0).normal(size=(3, 2, 3, 3, 7))

def total(x):
    return keras.ops.sum(layer(x) * keras.ops.convert_to_tensor(weights, "float32"))

def gradient(x):
    x = keras.ops.convert_to_tensor(x, "float32")
    if {backend!r} == "tensorflow":
        import tensorflow as tf
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = total(x)
        return tape.gradient(y, x)
    if {backend!r} == "jax":
        import jax
        return jax.grad(total)(x)
    x.requires_grad_()
    total(x).backward()
    return x.grad

def exact(x):  # in float64, by the formula
    padded = np.pad(x**2, [(0, 0)] * 3 + [(1, 1)])
    energy = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    return (x / (2.0 + 0.5 / 3 * energy) ** 0.5 * weights).sum()

slope = (exact(x + 1e-5 * direction) - exact(x - 1e-5 * direction)) / 2e-5
found = (keras.ops.convert_to_numpy(gradient(x)) * direction).sum()
assert abs(found - slope) < 1e-5 * abs(slope), (found, slope)
"""

EXITS = """
alone = model.predict(images, verbose=0)
thresholds = {{h: float(np.median(alone[h].max(-1))) for h in model.heads}}
probabilities, exits = ki.EarlyExit(model, thresholds).predict(images)
assert "aux_4a" in exits and set(exits) != {{"aux_4a"}}, exits
for row, name in enumerate(exits):
    np.testing.assert_allclose(probabilities[row], alone[name][row], atol=1e-5)

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
attached.fit(sequences, labels, verbose=0)
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_trains_a_step_and_round_trips(backend, tmp_path):
    if backend != "tensorflow":
        pytest.importorskip(backend)
    code = (
        TRAIN_A_STEP + GRADIENTS + RESPONSE_NORMALIZATION + EXITS + WHILE_TRAINING
    ).format(
        backend=backend,
        path=str(tmp_path / "m.keras"),
        tests=str(Path(__file__).parent),
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        # XLA would spend a minute on making the few steps fast
        env=os.environ
        | {"KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
