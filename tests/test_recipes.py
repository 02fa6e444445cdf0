"""Recipes, their optimizers, and schedules of the heads' loss weights."""

import keras
import numpy as np
import pytest
from conftest import small_pictures, small_supervised

from keras_inception.optimizers import LayerwiseSGD
from keras_inception.training import (
    RECIPES,
    AuxiliarySchedule,
    learning_rate,
    optimizer,
)
from keras_inception.training.recipes import Cosine, Polynomial


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_the_paper_decays_the_rate_by_4_percent_every_8_epochs():
    # arXiv 1409.4842, section 6
    recipe = RECIPES["paper"]
    schedule = learning_rate(recipe.learning_rate, recipe.schedule, 250, 10)
    expected = [0.01 * 0.96 ** (epoch // 8) for epoch in range(20)]
    assert rates(schedule, range(0, 200, 10)) == pytest.approx(expected)


def test_caffes_quick_solver():
    # quick_solver.prototxt: base_lr 0.01, lr_policy "poly", power 0.5, momentum 0.9,
    # weight_decay 0.0002; train_val.prototxt: lr_mult 2 and decay_mult 0 for biases
    recipe = RECIPES["caffe-quick"]
    schedule = learning_rate(recipe.learning_rate, recipe.schedule, 4, 25)
    expected = [0.01 * (1 - step / 100) ** 0.5 for step in (0, 30, 75, 100)]
    assert rates(schedule, (0, 30, 75, 100)) == pytest.approx(expected)
    made = optimizer(recipe, 4, 25)
    assert (made.momentum, made.kernel_decay, made.bias_factor) == (0.9, 2e-4, 2.0)
    assert not made.use_ema


def test_cosine_and_polynomial_end_at_zero():
    assert rates(learning_rate(0.1, Cosine(), 5, 2), (0, 5, 10)) == pytest.approx(
        [0.1, 0.05, 0.0], abs=1e-8
    )
    risen = learning_rate(0.1, Cosine(warmup=0.2), 5, 2)
    assert rates(risen, (0, 1, 2, 6, 10)) == pytest.approx([0, 0.05, 0.1, 0.05, 0])
    line = learning_rate(0.1, Polynomial(1), 1, 10)
    assert rates(line, (5, 10)) == pytest.approx([0.05, 0.0])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_and_its_optimizer_survives_saving(name, tmp_path):
    recipe = RECIPES[name]
    model = small_supervised()
    made = optimizer(recipe, 1, 3, factors={"first": 0.5}, global_clipnorm=1.0)
    model.compile(made)
    before = model.get_weights()
    model.fit(*small_pictures(), batch_size=4, verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras").optimizer
    assert again.get_config() == model.optimizer.get_config()
    assert again.use_ema == (name == "paper")


def test_weight_decay_and_bias_rate_are_caffes():
    """Two steps by hand: v = m v + rate * factor * (g + decay * w), w -= v."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    kernel, bias = np.array([[1.0], [-2.0]]), np.array([0.5])
    model.set_weights([kernel, bias])
    rate, decay = 0.1, 0.01
    made = LayerwiseSGD(rate, momentum=0.9, bias_factor=2.0, kernel_decay=decay)
    model.compile(made, loss="mse")
    x, y = np.array([[1.0, 2.0]]), np.array([[1.0]])
    v_kernel = v_bias = 0.0
    for _ in range(2):
        error = 2 * (x @ kernel + bias - y)
        v_kernel = 0.9 * v_kernel + rate * (x.T @ error + decay * kernel)
        v_bias = 0.9 * v_bias + rate * 2.0 * error[0]
        kernel, bias = kernel - v_kernel, bias - v_bias
        model.train_on_batch(x, y)
    assert model.get_weights()[0] == pytest.approx(kernel, rel=1e-5)
    assert model.get_weights()[1] == pytest.approx(bias, rel=1e-5)


class Weights(keras.callbacks.Callback):
    """Records the head's weight in each epoch, and how often the step was traced."""

    def __init__(self):
        super().__init__()
        self.seen, self.traced = [], []

    def set_model(self, model):
        super().set_model(model)
        self.count, compute_loss = 0, model.compute_loss

        def counting(*args, **kwargs):
            self.count += 1  # Python runs only while the step is traced
            return compute_loss(*args, **kwargs)

        model.compute_loss = counting

    def on_epoch_end(self, epoch, logs=None):
        self.traced.append(self.count)
        weight = float(self.model.auxiliary_weights["aux"])
        self.seen.append(weight)
        expected = logs["main_loss"] + weight * logs["aux_loss"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.4, 0.4, 0.4, 0.4]),
        ("linear", [0.4, 0.3, 0.2, 0.1]),
        ("cosine", [0.4, 0.4 * 0.853553, 0.2, 0.4 * 0.146447]),
        ({"aux": "linear"}, [0.4, 0.3, 0.2, 0.1]),
        ({}, [0.4, 0.4, 0.4, 0.4]),
    ],
)
def test_head_weights_change_without_retracing(schedule, expected):
    model = small_supervised(loss_weights=0.4)
    weights = Weights()
    model.fit(
        *small_pictures(),
        epochs=4,
        callbacks=[AuxiliarySchedule(schedule), weights],
        verbose=0,
    )
    assert weights.seen == pytest.approx(expected, abs=1e-6)
    assert weights.traced == [weights.traced[0]] * 4
    assert weights.traced[0] > 0


def test_a_resumed_schedule_keeps_its_start():
    model = small_supervised(loss_weights=0.2)  # its value after two epochs
    weights = Weights()
    decay = AuxiliarySchedule("linear", start={"aux": 0.4})
    model.fit(
        *small_pictures(),
        initial_epoch=2,
        epochs=4,
        callbacks=[decay, weights],
        verbose=0,
    )
    assert weights.seen == pytest.approx([0.2, 0.1])


def test_unknown_schedules_and_heads_are_refused():
    with pytest.raises(ValueError, match="constant, linear, cosine"):
        AuxiliarySchedule("steep")
    model = small_supervised()
    with pytest.raises(ValueError, match=r"no head aux_9z to schedule\. Heads: aux"):
        model.fit(
            *small_pictures(),
            callbacks=[AuxiliarySchedule({"aux_9z": "linear"})],
            verbose=0,
        )
