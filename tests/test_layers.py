"""Compares each building block with its definition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_inception.layers import BatchNormalization, LocalResponseNormalization
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


@pytest.mark.parametrize(
    ("shape", "dtype", "settings"),
    [
        ((8, 6, 5, 3), "float32", {}),
        ((1, 1, 1, 3), "float32", {}),
        ((8, 6, 5, 3), "float32", {"center": False}),
        ((8, 6, 5, 3), "float32", {"scale": False, "epsilon": 0.5}),
        ((8, 6, 5, 3), "mixed_bfloat16", {}),
        ((8, 6, 5, 3), "mixed_float16", {}),
        ((8, 3, 6, 5), "float32", {"axis": 1}),
        ((8, 6, 3), "float32", {}),
        ((8, 3), "float32", {}),
    ],
)
def test_batch_normalization_computes_what_keras_does(shape, dtype, settings):
    random = np.random.default_rng(0)
    x = random.normal(3, 2, shape).astype("float32")
    weights = random.normal(size=shape)
    channels = shape[settings.get("axis", -1)]
    found = []
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        layer = kind(dtype=dtype, momentum=0.9, **settings)
        layer.build(shape)
        for weight in layer.weights:
            values = np.random.default_rng(len(weight.name)).uniform(0.5, 2, channels)
            weight.assign(values)
        given = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = layer(given, training=True)
            loss = tf.reduce_sum(tf.cast(y, "float32") * weights)
        gradients = tape.gradient(loss, [given, *layer.trainable_weights])
        inference = layer(given, training=False)
        layer.trainable = False
        frozen = layer(given, training=True)
        assert y.dtype == inference.dtype == frozen.dtype
        found.append([y, *gradients, *layer.weights, inference, frozen])
        assert layer.name.startswith("batch_normalization")
    exact = dtype == "float32"
    for ours, keras_s in zip(*reversed(found), strict=True):
        a, b = (np.asarray(tf.cast(value, "float32")) for value in (ours, keras_s))
        tolerance = 1e-5 if exact else 0.02
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * abs(b).max())


def test_batch_normalization_is_fused_and_reads_old_files(tmp_path):
    inputs = keras.Input((4, 4, 3))
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        model = keras.Model(inputs, kind(name="norm")(inputs))
        model.layers[-1].gamma.assign([1, 2, 3])
        model.save(tmp_path / f"{kind.__module__}.keras")
        again = keras.saving.load_model(tmp_path / f"{kind.__module__}.keras")
        assert type(again.get_layer("norm")) is kind
        np.testing.assert_array_equal(again.get_layer("norm").gamma, [1, 2, 3])
        graph = tf.function(lambda x, model=again: model(x, training=True))
        operations = graph.get_concrete_function(
            tf.TensorSpec((None, 4, 4, 3))
        ).graph.get_operations()
        fused = any(one.type == "FusedBatchNormV3" for one in operations)
        assert fused == (kind is BatchNormalization)
    ours = BatchNormalization(name="norm", momentum=0.5).get_config()
    assert (
        ours == keras.layers.BatchNormalization(name="norm", momentum=0.5).get_config()
    )
    assert BatchNormalization.from_config(ours).momentum == 0.5
    # a mask is counted by Keras
    x, mask = np.ones((2, 4, 4, 3), "float32"), np.arange(32).reshape(2, 4, 4) > 5
    x[~mask] = 9
    np.testing.assert_allclose(
        BatchNormalization()(x, training=True, mask=mask)[mask], 0, atol=1e-6
    )
