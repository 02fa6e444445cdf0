"""Frozen stages keep their weights; learning rates differ by layer."""

import keras
import numpy as np
import pytest
from conftest import tiny_googlenet

from keras_inception.optimizers import (
    LayerwiseSGD,
    freeze_through,
    layer_decay_factors,
)


def test_frozen_stages_keep_every_weight(pictures):
    model = tiny_googlenet(batch_norm=True)
    frozen = freeze_through(model, "inception_4e")
    assert "inception_4e_3x3_bn" in frozen
    assert not any(name.startswith(("inception_5", "aux", "main")) for name in frozen)
    model.compile(keras.optimizers.SGD(0.1))
    before = {layer.name: layer.get_weights() for layer in model.layers}
    model.fit(*pictures, epochs=2, verbose=0)
    for layer in model.layers:
        same = all(
            np.array_equal(one, other)
            for one, other in zip(before[layer.name], layer.get_weights(), strict=True)
        )
        if layer.get_weights() and "drop" not in layer.name:
            assert same == (layer.name in frozen), layer.name


def test_an_unknown_stage_raises_an_error_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'inception_9z'.*inception_3a"):
        freeze_through(tiny_googlenet(), "inception_9z")


def test_each_stage_of_the_paper_has_its_own_factor():
    factors = layer_decay_factors(tiny_googlenet(), 0.5)
    # twelve stages of Table 1 have weights: conv1, conv2's two and nine modules
    assert factors["inception_5b_pool_proj"] == 0.5
    assert factors["inception_4a_1x1"] == 0.5**7
    assert factors["conv2_3x3"] == 0.5**10
    assert factors["conv2_3x3_reduce"] == 0.5**11
    assert factors["conv1_7x7_s2"] == 0.5**12
    assert not any(name.startswith(("aux", "main")) for name in factors)
    with pytest.raises(ValueError, match="at most 1"):
        layer_decay_factors(tiny_googlenet(), 1.5)


def test_a_factor_is_a_smaller_learning_rate_and_survives_saving(tmp_path):
    """Three steps with momentum, beside plain SGD with a quarter of the rate."""

    def layer():
        layer = keras.layers.Dense(2, name="slow", kernel_initializer="ones")
        layer.build((None, 3))
        return layer

    ours, plain = layer(), layer()
    optimizer = LayerwiseSGD(0.1, momentum=0.9, factors={"slow": 0.25})
    other = keras.optimizers.SGD(0.025, momentum=0.9)
    random = np.random.default_rng(0)
    for _ in range(3):
        gradients = [
            keras.ops.convert_to_tensor(random.normal(size=(3, 2)), "float32"),
            keras.ops.convert_to_tensor(random.normal(size=2), "float32"),
        ]
        optimizer.apply(gradients, ours.trainable_variables)
        other.apply(gradients, plain.trainable_variables)
    np.testing.assert_allclose(ours.kernel, plain.kernel, rtol=1e-6)
    assert not np.allclose(ours.kernel, 1)

    model = tiny_googlenet(auxiliary=())
    model.compile(LayerwiseSGD(0.1, factors={"slow": 0.25}))
    model.save(tmp_path / "tuned.keras")
    again = keras.saving.load_model(tmp_path / "tuned.keras")
    assert again.optimizer.factors == {"slow": 0.25}
