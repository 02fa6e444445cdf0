"""gradient_flow beside a slow computation, one output at a time, on each backend."""

import keras
import numpy as np
import pytest
from conftest import CLASSES, SIDE, short_googlenet

import keras_inception as ki
from keras_inception.gradients import (
    Probe,
    gradient_flow,
    loss_weights_by_output,
    weights_by_stage,
)

STAGES = [
    "conv1_7x7_s2",
    "conv2_3x3_reduce",
    "conv2_3x3",
    *(f"inception_{b}" for b in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")),
    "main",
    "aux_4a",
    "aux_4d",
]


def by_place(rows):
    return {(row.stage, row.loss): row for row in rows}


def test_stages_are_the_endpoints_then_the_heads(model):
    assert list(weights_by_stage(model)) == STAGES
    weights = [w for stage in weights_by_stage(model).values() for w in stage]
    assert {id(w) for w in weights} == {id(w) for w in model.trainable_weights}
    assert len(weights) == len(model.trainable_weights)


def test_norms_equal_one_output_at_a_time(model, pictures):
    import tensorflow as tf

    images, labels = pictures
    model.auxiliary_weights["aux_4d"].assign(0.1)
    rows = by_place(gradient_flow(model, images, labels))
    weights = {"main": 1.0, "aux_4a": 0.3, "aux_4d": 0.1}
    slow = {}
    for name in weights:
        with tf.GradientTape() as tape:
            output = model(images, training=False)[name]
            losses = keras.losses.sparse_categorical_crossentropy(labels, output)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(
            loss,
            [w.value for w in model.trainable_weights],
            unconnected_gradients="zero",
        )
        paths = [w.path for w in model.trainable_weights]
        slow[name] = dict(zip(paths, gradients, strict=True))
    for stage, variables in weights_by_stage(model).items():
        flat = {
            name: np.concatenate(
                [slow[name][v.path].numpy().ravel() for v in variables]
            )
            for name in weights
        }
        flat["total"] = sum(weights[name] * flat[name] for name in weights)
        size = np.sqrt(sum(np.square(v.numpy()).sum() for v in variables))
        for name, gradient in flat.items():
            row, norm = rows[stage, name], np.linalg.norm(gradient)
            assert row.norm == pytest.approx(norm, rel=1e-5), (stage, name)
            assert row.relative_norm == pytest.approx(norm / size, rel=1e-5)
            assert row.zero_fraction == pytest.approx(np.mean(gradient == 0), abs=1e-6)
            main = np.linalg.norm(flat["main"])
            if norm == 0 or main == 0:
                assert row.cosine_to_main is None
            else:
                cosine = gradient @ flat["main"] / norm / main
                assert row.cosine_to_main == pytest.approx(cosine, abs=1e-4)


def test_a_head_reaches_what_lies_before_it_alone(model, pictures):
    rows = by_place(gradient_flow(model, *pictures))
    assert [stage for stage, loss in rows if loss == "main"] == STAGES
    for stage in STAGES[STAGES.index("inception_4b") : STAGES.index("aux_4a")]:
        row = rows[stage, "aux_4a"]
        assert (row.norm, row.zero_fraction, row.cosine_to_main) == (0, 1, None)
    assert rows["inception_4a", "aux_4a"].cosine_to_main is not None
    assert rows["aux_4a", "main"].cosine_to_main is None


def test_nothing_of_the_model_changes(pictures):
    model = short_googlenet(batch_norm=True)
    model.compile("sgd")
    before = [np.array(v) for v in model.variables]
    one = gradient_flow(model, *pictures, training=True)
    two = gradient_flow(model, *pictures, training=True)
    assert one == two  # the state of dropout is where it was
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(variable))
    assert one != gradient_flow(model, *pictures)


def test_a_probe_compiled_once_measures_the_same(model, pictures):
    probe = Probe(model, compiled=True)
    for weight in (0.3, 0.0):
        model.auxiliary_weights["aux_4a"].assign(weight)
        compiled, eager = probe(*pictures), gradient_flow(model, *pictures)
        for one, other in zip(compiled, eager, strict=True):
            assert one[:2] == other[:2]
            assert one.norm == pytest.approx(other.norm, rel=1e-4)


def test_other_models_with_one_output(pictures):
    images, labels = pictures
    model = keras.applications.MobileNetV3Small(
        (SIDE, SIDE, 3), weights=None, classes=CLASSES
    )
    rows = gradient_flow(model, images, labels)
    assert {row.loss for row in rows} == {"main", "total"}
    stages = list(dict.fromkeys(row.stage for row in rows))
    assert stages[0] == "conv"
    assert "expanded_conv_1" in stages
    assert not any(stage.endswith("bn") for stage in stages)
    assert all(row.norm > 0 for row in rows[:20])

    inputs = keras.Input((4,))
    x = keras.layers.Dense(8, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    plain = keras.Model(inputs, keras.layers.Dense(2)(x))  # logits
    plain.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rows = gradient_flow(plain, np.ones((3, 4)), np.array([0, 1, 1]))
    assert len({row.stage for row in rows}) == 2  # the norm belongs to its dense layer


def test_coarse_and_one_hot_labels(pictures):
    images, labels = pictures
    head = ki.AuxiliaryHead("inception_4a", superclasses=["x", "x", "y"])
    model = short_googlenet(auxiliary=(head,))
    sparse = gradient_flow(model, images, labels)
    hot = gradient_flow(model, images, np.eye(CLASSES, dtype="float32")[labels])
    for one, other in zip(sparse, hot, strict=True):
        assert one.norm == pytest.approx(other.norm, rel=1e-4, abs=1e-8)


def test_a_batch_without_labels_is_refused(model, pictures):
    with pytest.raises(ValueError, match="Received 8 pictures and 3 labels"):
        gradient_flow(model, pictures[0], pictures[1][:3])
    with pytest.raises(ValueError, match="at least one picture"):
        gradient_flow(model, pictures[0][:0], pictures[1][:0])


def test_loss_weights_of_a_plain_model_are_those_of_keras():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="relu")(inputs)
    outputs = {n: keras.layers.Dense(2, name=n)(x) for n in ("main", "aux")}
    model = keras.Model(inputs, outputs)
    assert loss_weights_by_output(model) == {"main": 1.0, "aux": 0.3}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss={"main": loss, "aux": loss})
    assert loss_weights_by_output(model) == {"main": 1.0, "aux": 1.0}
    # Keras gives a list to the outputs in the order of their names
    model.compile("sgd", loss={"main": loss, "aux": loss}, loss_weights=[0.5, 2.0])
    x, y = np.ones((2, 4)), {"main": np.array([0, 1]), "aux": np.array([1, 0])}
    logs = model.evaluate(x, y, return_dict=True, verbose=0)
    weights = loss_weights_by_output(model)
    expected = sum(weights[name] * logs[f"{name}_loss"] for name in weights)
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert weights == {"main": 2.0, "aux": 0.5}
