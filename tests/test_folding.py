"""Networks rewritten for inference: other layers, the same answers."""

import keras
import numpy as np
import pytest
from conftest import tiny_googlenet

from keras_inception.export import folding

Conv2D, BatchNormalization = keras.layers.Conv2D, keras.layers.BatchNormalization


def count(model, kind) -> int:
    return sum(isinstance(layer, kind) for layer in model.layers)


def as_if_trained(model):
    """Random weights and statistics, different from the initial ones."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(1).uniform(0, 255, (4, 64, 64, 3)).astype("float32")


@pytest.mark.parametrize(
    ("batch_norm", "normalization"),
    [(False, folding.FusedNormalization), (True, folding.ConvolutionNormalization)],
)
def test_googlenet_answers_as_before(batch_norm, normalization, pictures):
    model = as_if_trained(tiny_googlenet(batch_norm=batch_norm, auxiliary=()))
    expected = model.predict(pictures, verbose=0)["main"]
    made = folding.inference_model(model, normalization)
    answer = made.predict(pictures, verbose=0)["main"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert expected.std() > 0.01  # the classes differ
    assert count(made, Conv2D) == count(model, Conv2D)
    assert count(made, BatchNormalization) == 0
    assert count(made, normalization) == 2
    # the model itself is not changed
    assert len(model.get_layer("inception_3a_1x1").output.shape) == 4
    np.testing.assert_array_equal(model.predict(pictures, verbose=0)["main"], expected)


def test_in_bfloat16_pixels_and_logits_stay_exact(pictures):
    model = as_if_trained(tiny_googlenet(batch_norm=True, auxiliary=()))
    made = folding.inference_model(
        model, folding.LocalResponseNormalization, "bfloat16"
    )
    exact = {x.name for x in made.layers if x.compute_dtype == "float32"}
    inputs = {x.name for x in made.layers if isinstance(x, keras.layers.InputLayer)}
    assert exact - inputs == {"input_normalization", "main_classifier", "main"}
    assert {str(w.dtype) for w in made.get_layer("conv1_7x7_s2").weights} == {
        "bfloat16"
    }
    assert count(made, BatchNormalization) == 0
    expected = model.predict(pictures, verbose=0)["main"]
    answer = made.predict(pictures, verbose=0)["main"]
    assert 0 < abs(answer - expected).max() < 0.03


def test_layers_read_twice_or_shared_are_not_folded(pictures):
    inputs = keras.Input((64, 64, 3))
    x = Conv2D(4, 3, strides=4, name="first")(inputs)
    y = BatchNormalization()(x)
    x = keras.layers.Add()([x, y])  # reads the convolution as well
    shared = Conv2D(4, 1, name="shared")
    x = keras.layers.Concatenate()([shared(x), shared(y)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = as_if_trained(keras.Model(inputs, [x, y]))
    made = folding.inference_model(model)
    assert count(made, BatchNormalization) == 1
    for answer, expected in zip(
        made.predict(pictures, verbose=0),
        model.predict(pictures, verbose=0),
        strict=True,
    ):
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-4)


def test_a_residual_network_of_keras_answers_as_before(pictures):
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    made = folding.inference_model(model)
    assert count(made, BatchNormalization) == 0
    np.testing.assert_allclose(
        made.predict(pictures, verbose=0),
        model.predict(pictures, verbose=0),
        atol=1e-5,
    )
