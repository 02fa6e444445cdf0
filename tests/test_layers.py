"""Compares each building block with its definition."""

import keras
import numpy as np
import pytest

from keras_inception.layers import LocalResponseNormalization
from keras_inception.outputs import Output
from keras_inception.supervision.heads import AuxiliaryHead, head_logits

HEAD = AuxiliaryHead("endpoint", name="aux")


def slow_lrn(x, size, alpha, beta, bias):
    """Computes Caffe's lrn_layer.cpp, ACROSS_CHANNELS, one value at a time."""
    out = np.empty_like(x)
    channels = x.shape[-1]
    for position in np.ndindex(x.shape):
        c = position[-1]
        window = range(max(0, c - size // 2), min(channels, c + size // 2 + 1))
        energy = sum(float(x[(*position[:-1], k)]) ** 2 for k in window)
        out[position] = x[position] / (bias + alpha / size * energy) ** beta
    return out


@pytest.mark.parametrize(
    ("size", "alpha", "beta", "bias"),
    [(5, 1e-4, 0.75, 1.0), (3, 0.5, 0.75, 2.0), (9, 0.1, 0.5, 1.0)],
)
def test_lrn_equals_a_slow_loop(size, alpha, beta, bias):
    x = np.random.default_rng(0).normal(0, 60, (2, 3, 3, 11)).astype("float32")
    layer = LocalResponseNormalization(size, alpha, beta, bias)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer(x)),
        slow_lrn(x, size, alpha, beta, bias),
        rtol=1e-5,
    )


def test_lrn_round_trips_and_rejects_even_windows():
    layer = LocalResponseNormalization(3, 0.2, 0.5, 2.0)
    again = LocalResponseNormalization.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    with pytest.raises(ValueError, match="odd"):
        LocalResponseNormalization(4)


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((14, 14, 512), (4, 4)),  # the paper, section 5: 4x4x512 at (4a)
        ((8, 8, 64), (2, 2)),
        ((5, 5, 64), (1, 1)),
        ((3, 4, 64), (1, 1)),  # smaller than the window: pooled whole
        ((28, 28, 192), (4, 4)),  # larger than 16x16: the grid stays
        ((None, None, 64), (4, 4)),
    ],
)
def test_heads_fit_any_map(shape, grid):
    x = keras.Input(shape)
    logits = head_logits(x, HEAD, 3)
    model = keras.Model(x, logits)
    assert model.get_layer("aux_ave_pool").output.shape[1:3] == grid
    assert logits.shape == (None, 3)


@pytest.mark.parametrize("shape", [(7,), (5, 7)])
def test_heads_take_vectors_and_sequences(shape):
    model = keras.Model(x := keras.Input(shape), head_logits(x, HEAD, 3))
    assert model.output.shape == (None, 3)
    assert not any("conv" in layer.name for layer in model.layers)


def test_heads_reject_volumes():
    with pytest.raises(ValueError, match="feature maps"):
        head_logits(keras.Input((4, 4, 4, 8)), HEAD, 3)


def test_output_stays_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        x = keras.Input((4,))
        assert Output(name="main")(keras.layers.Dense(3)(x)).dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_output_knows_its_superclasses():
    layer = Output(superclasses=["pet", "tool", "pet"])
    assert layer.superclass_names == ["pet", "tool"]
    sparse = keras.ops.convert_to_numpy(layer.own_labels(np.array([0, 1, 2, 1])))
    assert sparse.tolist() == [0, 1, 0, 1]
    one_hot = layer.own_labels(np.eye(3)[[0, 1, 2]])
    assert keras.ops.convert_to_numpy(one_hot).tolist() == [[1, 0], [0, 1], [1, 0]]
