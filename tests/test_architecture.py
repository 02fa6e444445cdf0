"""Compares the table with the paper and BVLC's model."""

import copy
import pickle

import keras
import numpy as np
import pytest
from conftest import tiny_googlenet

import keras_inception as ki

# Output sizes: Table 1 of arXiv 1409.4842, column "output size", and the 1x1 reduction
# that it calls "depth 2" of the second convolution.
ENDPOINT_SHAPES = {
    "conv1_7x7_s2": (112, 112, 64),
    "pool1_3x3_s2": (56, 56, 64),
    "pool1_norm1": (56, 56, 64),
    "conv2_3x3_reduce": (56, 56, 64),
    "conv2_3x3": (56, 56, 192),
    "conv2_norm2": (56, 56, 192),
    "pool2_3x3_s2": (28, 28, 192),
    "inception_3a": (28, 28, 256),
    "inception_3b": (28, 28, 480),
    "pool3_3x3_s2": (14, 14, 480),
    "inception_4a": (14, 14, 512),
    "inception_4b": (14, 14, 512),
    "inception_4c": (14, 14, 512),
    "inception_4d": (14, 14, 528),
    "inception_4e": (14, 14, 832),
    "pool4_3x3_s2": (7, 7, 832),
    "inception_5a": (7, 7, 832),
    "inception_5b": (7, 7, 1024),
    "pool5_7x7_s1": (1024,),
    "pool5_drop_7x7_s1": (1024,),
}


@pytest.fixture(scope="module")
def googlenet():
    return ki.GoogLeNet()


def test_every_endpoint_has_the_papers_shape(googlenet):
    assert {
        name: googlenet.get_layer(name).output.shape[1:] for name in ki.GOOGLENET.rows
    } == ENDPOINT_SHAPES


def test_outputs_are_three_named_softmaxes(googlenet):
    assert {name: tuple(x.shape) for name, x in googlenet.output.items()} == {
        "main": (None, 1000),
        "aux_4a": (None, 1000),
        "aux_4d": (None, 1000),
    }
    assert list(googlenet.output) == ["main", "aux_4a", "aux_4d"]


def test_parameter_counts(googlenet):
    """Computed from the widths of Table 1 by hand: weights and biases."""
    main = ki.detach_auxiliary(googlenet)
    assert main.count_params() == 6_998_552
    assert googlenet.count_params() == 13_378_280

    def head(name):
        return sum(
            layer.count_params()
            for layer in googlenet.layers
            if layer.name.startswith(name)
        )

    # 512*128+128 + 2048*1024+1024 + 1024*1000+1000, and with 528 channels instead
    assert head("aux_4a") == 3_188_840
    assert head("aux_4d") == 3_190_888
    # torchvision's own count of its network without heads: docs of torchvision 0.29;
    # Keras counts the 2 x 7,280 moving statistics as parameters as well
    torchvision = ki.GoogLeNet(
        auxiliary=(), architecture=ki.GOOGLENET_TORCHVISION, batch_norm=True
    )
    trainable = sum(np.prod(v.shape) for v in torchvision.trainable_weights)
    assert trainable == 6_624_904


def test_multiply_adds_are_1_58_billion(googlenet):
    counts = ki.multiply_adds(ki.detach_auxiliary(googlenet))
    assert round(sum(counts.values()) / 1e9, 2) == 1.58
    # Table 1, column "ops" in million: 3a 128, 5b 71, linear 1
    module = {
        stage: sum(n for name, n in counts.items() if name.startswith(stage))
        for stage in ("inception_3a", "inception_5b", "main_classifier")
    }
    assert {stage: round(n / 1e6) for stage, n in module.items()} == {
        "inception_3a": 128,
        "inception_5b": 71,
        "main_classifier": 1,
    }


def test_multiply_adds_need_known_sizes():
    model = ki.GoogLeNet((None, None, 3), classes=3, width=0.125, auxiliary=())
    with pytest.raises(ValueError, match=r"'conv1_7x7_s2'.*fixed input size"):
        ki.multiply_adds(model)


def test_convolutions_have_bvlcs_names():
    names = {layer.name for layer in tiny_googlenet().layers}
    for part in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"):
        assert f"inception_3a_{part}" in names
    assert tiny_googlenet().get_layer("inception_3a_5x5").kernel_size == (5, 5)


def test_first_convolution_pads_evenly():
    """Caffe pads 3 on each side; Keras's own "same" would pad 2 and 3."""
    model = tiny_googlenet(auxiliary=())
    conv = model.get_layer("conv1_7x7_s2")
    probe = keras.Model(model.get_layer("conv1_7x7_s2_pad").input, conv.output)
    kernel = np.zeros(conv.kernel.shape, "float32")
    kernel[3, 3] = 1  # the window's center
    conv.set_weights([kernel, np.zeros(conv.filters)])
    image = np.arange(64 * 64, dtype="float32").reshape(1, 64, 64, 1)
    out = keras.ops.convert_to_numpy(probe(np.repeat(image, 3, -1) / 3))
    np.testing.assert_allclose(out[0, :, :, 0], image[0, ::2, ::2, 0], rtol=1e-5)


def test_pictures_are_normalized_inside():
    model = tiny_googlenet()
    layer = model.get_layer("input_normalization")
    pixel = keras.ops.convert_to_numpy(layer(np.full((1, 1, 1, 3), 255.0)))
    np.testing.assert_allclose(pixel[0, 0, 0] * 64, [132, 138, 151], rtol=1e-6)


def test_small_is_the_same_table_with_another_stem():
    paper, small = ki.GOOGLENET.rows, ki.GOOGLENET_SMALL.rows
    modules = [name for name in paper if name.startswith("inception")]
    assert [paper[name] for name in modules] == [small[name] for name in modules]
    model = ki.GoogLeNet((32, 32, 3), 10, architecture=ki.GOOGLENET_SMALL, width=0.125)
    shapes = [
        model.get_layer(name).output.shape[1:3]
        for name in ("inception_3a", "inception_4a", "inception_5a")
    ]
    assert shapes == [(16, 16), (8, 8), (4, 4)]


def test_torchvision_has_no_response_normalization_and_no_5x5():
    rows = ki.GOOGLENET_TORCHVISION.rows
    assert not any("norm" in name for name in rows)
    assert all(row.wide_size == 3 for name, row in rows.items() if "inception" in name)


def test_batch_norm_replaces_biases_in_trunk_and_heads():
    model = tiny_googlenet(batch_norm=True)
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(convolutions) == 57 + 2
    assert not any(layer.use_bias for layer in convolutions)
    assert model.get_layer("aux_4a_conv_bn").epsilon == 1e-3


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_an_architecture_can_be_copied_and_is_constant(make):
    assert make(ki.GOOGLENET) == ki.GOOGLENET
    with pytest.raises(TypeError):
        ki.GOOGLENET.rows["inception_3a"] = None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (16, 16, 3)}, "at least 32x32"),
        ({"input_shape": (64, 64, 1)}, "RGB"),
        ({"classes": 1}, "at least 2 classes"),
        ({"width": 0}, "greater than 0"),
        ({"auxiliary": ("inception_9z",)}, "inception_9z.*inception_4a"),
        ({"auxiliary": (4,)}, "endpoint's name or an AuxiliaryHead"),
        ({"auxiliary": ("inception_4a", "inception_4a")}, "Two heads"),
        ({"classifier_activation": "relu"}, "softmax"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_googlenet(**arguments)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels_first"):
            tiny_googlenet()
    finally:
        keras.config.set_image_data_format("channels_last")
