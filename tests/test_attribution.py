"""Loss attribution: the parts add up, and are those of separate computations."""

import io
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_pictures, small_supervised

import keras_inception as ki
from keras_inception.attribution import (
    explain_attribution,
    read_attribution,
    write_attribution,
)
from keras_inception.gradients import weights_by_stage
from keras_inception.optimizers import LayerwiseSGD

SGD = keras.optimizers.SGD


def train(model, epochs=2, account=None, **arguments):
    """Trains on twelve pictures in batches of four, and returns the account."""
    account = account or ki.LossAttribution()
    images, labels = small_pictures()
    options = {"batch_size": 4, "epochs": epochs, "shuffle": False, "verbose": 0}
    model.fit(images, labels, callbacks=[account], **options | arguments)
    return account


def model_of(optimizer, **arguments):
    """A small model without dropout that trains with an optimizer."""
    model = small_supervised(dropout=0.0)
    model.compile(optimizer, **arguments)
    return model


def moved_by_loss(account):
    """Each variable's displacement in an account: position to loss to array."""
    ledger = account.model.attribution_ledger
    found = {}
    for loss in ledger.losses:
        for position, variable in ledger.moved[loss].items():
            found.setdefault(position, {})[loss] = np.asarray(variable)
    return found


def decayed():
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 6)
    return SGD(schedule, momentum=0.9)


OPTIMIZERS = {
    "plain": lambda: SGD(0.05),
    "momentum": lambda: SGD(0.05, momentum=0.9),
    "nesterov": lambda: SGD(0.05, momentum=0.9, nesterov=True),
    "schedule": decayed,
    "weight decay": lambda: SGD(0.05, momentum=0.9, weight_decay=0.1),
    "clipped": lambda: SGD(0.05, momentum=0.9, global_clipnorm=0.2),
    "clipped by variable": lambda: SGD(0.05, clipnorm=0.05),
    "layerwise": lambda: LayerwiseSGD(
        0.05,
        momentum=0.9,
        nesterov=True,
        factors={"first": 0.3},
        bias_factor=2.0,
        kernel_decay=0.05,
        global_clipnorm=0.3,
    ),
}


@pytest.mark.parametrize(
    ("optimizer", "distillation"),
    [*((make, 0.0) for make in OPTIMIZERS.values()), (OPTIMIZERS["layerwise"], 0.7)],
    ids=[*OPTIMIZERS, "with distillation"],
)
def test_the_parts_add_up_to_the_displacement(optimizer, distillation):
    model = model_of(optimizer(), distillation=distillation)
    before = [np.asarray(v) for v in model.trainable_variables]
    account = train(model)
    found = moved_by_loss(account)
    for position, variable in enumerate(model.trainable_variables):
        moved = np.asarray(variable) - before[position]
        parts = sum(found[position].values())
        assert np.linalg.norm(parts - moved) <= 1e-4 * np.linalg.norm(moved)
        assert np.linalg.norm(moved) > 0
    stages = list(weights_by_stage(model))
    assert list(dict.fromkeys(row.stage for row in account.rows)) == stages
    for stage in stages:
        rows = [row for row in account.rows if row.stage == stage]
        assert sum(row.share for row in rows) == pytest.approx(1, abs=1e-6)
        assert sum(row.path_share for row in rows) == pytest.approx(1, abs=1e-6)
        assert rows[0].loss == "main"
        assert rows[0].cosine_to_main in (None, pytest.approx(1))
    decays = model.optimizer.weight_decay or getattr(model.optimizer, "kernel_decay", 0)
    assert ("weight_decay" in {row.loss for row in account.rows}) == bool(decays)


def test_it_trains_like_the_ordinary_step():
    models = [model_of(SGD(0.05, momentum=0.9)) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    images, labels = small_pictures()
    weights = np.linspace(0.5, 2, len(images))
    train(models[0], sample_weight=weights)
    logs = models[0].history.history
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    models[1].fit(images, labels, sample_weight=weights, **options)
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert logs.keys() == models[1].history.history.keys()
    for name, values in models[1].history.history.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-5)


def test_three_steps_are_those_of_one_tape_for_each_loss():
    """With momentum and Nesterov's step, computed by hand in NumPy."""
    rate, momentum, weight = 0.05, 0.9, 0.3
    model = model_of(SGD(rate, momentum=momentum, nesterov=True), loss_weights=weight)
    other = model_of("sgd")
    other.set_weights(model.get_weights())
    images, labels = small_pictures()
    account = train(model, epochs=1)
    variables = other.trainable_variables
    zeros = [np.zeros(v.shape) for v in variables]
    velocity = {"main": zeros, "aux": zeros}
    moved = {"main": zeros, "aux": zeros}
    for start in range(0, 12, 4):
        batch, truth = images[start : start + 4], labels[start : start + 4]
        steps = {}
        for loss, factor in (("main", 1.0), ("aux", weight)):
            with tf.GradientTape() as tape:
                scores = other(batch, training=True)[loss]
                picked = tf.gather(scores, truth, batch_dims=1)
                value = -factor * tf.reduce_mean(tf.math.log(picked))
            gradients = [
                np.zeros(v.shape) if g is None else np.asarray(g)
                for g, v in zip(
                    tape.gradient(value, [v.value for v in variables]),
                    variables,
                    strict=True,
                )
            ]
            velocity[loss] = [
                momentum * v - rate * g
                for v, g in zip(velocity[loss], gradients, strict=True)
            ]
            steps[loss] = [
                momentum * v - rate * g
                for v, g in zip(velocity[loss], gradients, strict=True)
            ]
        for loss, of_loss in steps.items():
            moved[loss] = [a + b for a, b in zip(moved[loss], of_loss, strict=True)]
        for variable, *parts in zip(variables, *steps.values(), strict=True):
            variable.assign_add(sum(parts))
    found = moved_by_loss(account)
    for position, by_loss in found.items():
        for loss, values in by_loss.items():
            np.testing.assert_allclose(
                values, moved[loss][position], rtol=1e-3, atol=1e-6
            )
    (row,) = [x for x in account.rows if (x.stage, x.loss) == ("first", "aux")]
    parts = [
        np.concatenate([moved[loss][i].ravel() for i in (0, 1)])
        for loss in ("main", "aux")
    ]
    total = sum(parts)
    assert row.share == pytest.approx(parts[1] @ total / (total @ total), rel=1e-3)


def test_a_head_of_weight_zero_has_no_share():
    account = train(model_of(SGD(0.05, momentum=0.9), loss_weights=0.0))
    for row in account.rows:
        if row.loss == "aux":
            assert (row.share, row.path_share, row.cosine_to_main) == (0, 0, None)


def test_changing_weights_are_followed():
    model = model_of(SGD(0.05))
    halve = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.auxiliary_weights["aux"].assign(
            1.0 - epoch
        )
    )
    account = ki.LossAttribution()
    images, labels = small_pictures()
    shares = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: shares.append(
            np.asarray(model.attribution_ledger.paths)[1].copy()
        )
    )
    options = {"batch_size": 4, "epochs": 2, "verbose": 0}
    model.fit(images, labels, callbacks=[account, halve, note], **options)
    assert (shares[0] > 0).any()
    np.testing.assert_array_equal(shares[0], shares[1])  # weight 0: no further way


def test_a_resumed_account_is_that_of_the_whole():
    whole = model_of(SGD(0.05, momentum=0.9))
    part = model_of(SGD(0.05, momentum=0.9))
    part.set_weights(whole.get_weights())
    rows = train(whole).rows
    begun = train(part, epochs=1)
    resumed = train(
        part, account=ki.LossAttribution(state=begun.state()), initial_epoch=1
    )
    assert resumed.rows == rows
    assert begun.rows != rows


def test_the_model_is_its_own_again():
    model = model_of(SGD(0.05))
    train(model)
    assert "train_step" not in vars(model)
    images, labels = small_pictures()
    paths = np.asarray(model.attribution_ledger.paths)
    model.fit(images, labels, verbose=0)
    np.testing.assert_array_equal(paths, np.asarray(model.attribution_ledger.paths))


def test_a_saved_model_holds_no_account(tmp_path):
    model = model_of(SGD(0.05, momentum=0.9))
    train(model)
    model.save(tmp_path / "after.keras")
    with zipfile.ZipFile(tmp_path / "after.keras") as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        names: list[str] = []
        weights.visit(names.append)
    assert any("optimizer" in name for name in names)
    assert not any("ledger/vars/" in name for name in names)
    again = keras.saving.load_model(tmp_path / "after.keras")
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (keras.optimizers.Adam(), "Adam is not SGD"),
        (SGD(0.1, clipvalue=1.0), "clipvalue cuts each entry"),
        (SGD(0.1, gradient_accumulation_steps=2), "accumulated over several steps"),
        (SGD(0.1, use_ema=True, ema_overwrite_frequency=1), "averages of the weights"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_linear_is_refused(optimizer, message):
    with pytest.raises(ValueError, match=message):
        train(model_of(optimizer))


def test_a_plain_model_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a DeeplySupervised model"):
        train(model)


def test_a_stage_that_did_not_move_has_no_shares():
    rows = train(model_of(SGD(0.0))).rows
    assert {(row.share, row.path_share, row.cosine_to_main) for row in rows} == {
        (0.0, 0.0, None)
    }
    sentence, *_ = explain_attribution(rows)
    assert sentence.startswith("first ended where it began")


def test_sentences_and_files(tmp_path):
    rows = train(model_of(SGD(0.05, weight_decay=0.01))).rows
    first, second = explain_attribution(rows)
    assert first.startswith("Of the way that first went, ")
    assert "is due to main's loss, " in first
    assert "aux's and" in first
    assert "to weight_decay." in first
    assert second.startswith("aux has its largest share")
    table, picture = write_attribution(tmp_path, rows, "small")
    assert table.read_text().splitlines()[0] == (
        "stage,loss,share,path_share,cosine_to_main"
    )
    again = read_attribution(table)
    assert [row[:2] for row in again] == [row[:2] for row in rows]
    assert again[0].share == pytest.approx(rows[0].share)
    table.write_text("stage,loss,share\nfirst,main,much\n")
    with pytest.raises(ValueError, match=r"attribution\.csv is damaged"):
        read_attribution(table)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_tensorboard_shows_the_shares(tmp_path):
    from conftest import logged

    train(model_of(SGD(0.05)), account=ki.LossAttribution(tmp_path))
    events = logged(tmp_path)
    assert events["attribution/aux"]["attribution_share/first"] == [1, 2]
    assert events.keys() == {"attribution/main", "attribution/aux"}
