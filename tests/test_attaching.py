"""Heads on other networks: attached, trained, saved, exported, detached."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_inception as ki

CLASSES = 3
SMALL = {"units": 16, "filters": 8, "dropout": 0.0}


def alexnet(side=67) -> keras.Model:
    """Krizhevsky et al. 2012, an eighth as wide, for small pictures."""
    x = inputs = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(12, 11, 4, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = layers.Conv2D(32, 5, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = layers.Conv2D(48, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="fc6")(x)
    x = layers.Dropout(0.5, name="drop6")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


def lstm(steps=12) -> keras.Model:
    """Two layers of LSTM over word indices, padding masked; logits."""
    x = inputs = keras.Input((steps,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True, name="words")(x)
    x = layers.LSTM(8, return_sequences=True, name="lstm_1")(x)
    x = layers.LSTM(8, return_sequences=True, name="lstm_2")(x)
    x = layers.LSTM(8, name="lstm_3")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x))


def application(name, side=32, **arguments):
    def build():
        return getattr(keras.applications, name)(
            weights=None, input_shape=(side, side, 3), classes=CLASSES, **arguments
        )

    return pytest.param(build, id=name, marks=pytest.mark.slow)


def examples(model, count=6):
    random = np.random.default_rng(0)
    shape = (count, *model.input.shape[1:])
    if len(shape) == 2:
        return random.integers(0, 20, shape), np.arange(count) % CLASSES
    return random.uniform(0, 255, shape).astype("float32"), np.arange(count) % CLASSES


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(alexnet, id="AlexNet"),
        pytest.param(lstm, id="LSTM"),
        application("ResNet50"),
        application("MobileNetV3Small"),
        application("EfficientNetB0"),
        application("ConvNeXtTiny"),
        application("InceptionV3", side=75),
    ],
)
def test_any_network_trains_with_heads_and_works_without_them(build, tmp_path):
    plain = build()
    images, labels = examples(plain)
    before = plain.predict(images, verbose=0)
    names = [layer.name for layer in plain.layers]
    weights = plain.get_weights()

    model = ki.attach_auxiliary(plain, 2)
    assert len(model.heads) == 2
    assert {"main"} | set(model.heads) == set(model.output)
    assert all(output.shape[-1] == CLASSES for output in model.output.values())
    assert set(names) <= {layer.name for layer in model.layers}
    for a, b in zip(plain.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        ki.detach_auxiliary(model).predict(images, verbose=0), before
    )

    model.compile(keras.optimizers.SGD(1e-3))
    logs = model.fit(images, labels, epochs=2, verbose=0).history
    assert {"main_accuracy", *(f"{head}_loss" for head in model.heads)} <= set(logs)
    assert np.all(np.isfinite(logs["loss"]))
    trained = model.predict(images, verbose=0)
    np.testing.assert_array_equal(plain.predict(images, verbose=0), trained["main"])
    assert np.any(trained["main"] != before)

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is ki.DeeplySupervised
    for name, values in again.predict(images, verbose=0).items():
        np.testing.assert_array_equal(values, trained[name])

    main = ki.detach_auxiliary(again)
    np.testing.assert_array_equal(main.predict(images, verbose=0), trained["main"])
    assert [layer.name for layer in main.layers] == names
    if len(main.input.shape) == 4:
        path = ki.export.export_saved_model(again, tmp_path / "saved")
        serve = tf.saved_model.load(path).signatures["serving_default"]
        served = serve(images=tf.constant(images))["main"]
        np.testing.assert_allclose(served, trained["main"], atol=1e-5)
    else:  # our export is for pictures, so this one is Keras's
        main.export(tmp_path / "saved", verbose=False)
        loaded = tf.saved_model.load(tmp_path / "saved")
        served = loaded.serve(images.astype("int32"))
        np.testing.assert_allclose(served, trained["main"], atol=1e-5)


@pytest.mark.parametrize(
    ("count", "endpoints"),
    [
        (1, ["inception_3b"]),
        (2, ["conv2_norm2", "inception_4b"]),
        (3, ["conv2_norm2", "inception_3b", "inception_4c"]),
    ],
)
def test_evenly_placed_heads_divide_the_computation(count, endpoints):
    # Table 1 of the paper: 30 % of the multiply-adds are done after conv2, 57 % after
    # 3b, 68 % after 4b, 74 % after 4c
    googlenet = ki.detach_auxiliary(ki.GoogLeNet())
    assert ki.supervision.evenly_placed(googlenet, count) == endpoints


def test_evenly_placed_heads_are_at_the_ends_of_residual_blocks():
    resnet = keras.applications.ResNet50(
        weights=None, input_shape=(32, 32, 3), classes=CLASSES
    )
    endpoints = ki.supervision.evenly_placed(resnet, 6)
    assert all(name.endswith("_out") for name in endpoints)
    assert endpoints == sorted(set(endpoints))


def test_heads_read_maps_of_any_size_sequences_and_vectors():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, name="open")(inputs)
    x = layers.GlobalAveragePooling2D(name="vector")(x)
    model = keras.Model(inputs, layers.Dense(CLASSES)(x))
    heads = [ki.AuxiliaryHead(at, **SMALL) for at in ("open", "vector")]
    model = ki.attach_auxiliary(model, heads)
    for side in (9, 50):
        outputs = model(np.zeros((2, side, side + 7, 3), "float32"))
        assert {tuple(x.shape) for x in outputs.values()} == {(2, CLASSES)}
    for side in (3, 18):  # wide and flat maps
        inputs = keras.Input((side, 40, 3))
        x = layers.Conv2D(4, 1, name="map")(inputs)
        x = layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, layers.Dense(CLASSES)(x))
        model = ki.attach_auxiliary(model, [ki.AuxiliaryHead("map", **SMALL)])
        assert np.all(
            np.isfinite(model.predict(np.ones((1, side, 40, 3)), verbose=0)["aux_map"])
        )


def ending_in(*ends) -> keras.Model:
    x = inputs = keras.Input((8,))
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    for end in ends:
        x = end(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("ends", "activation"),
    [
        ([layers.Dense(3)], "linear"),
        ([layers.Dense(3, activation="softmax")], "softmax"),
        ([layers.Dense(3), layers.Softmax()], "softmax"),
        ([layers.Dense(3), keras.ops.softmax], "softmax"),
        ([layers.Dense(3), layers.Activation("softmax", dtype="float32")], "softmax"),
        ([layers.Dense(3), layers.Activation("linear", dtype="float32")], "linear"),
        (
            [layers.Dense(3, activation="softmax"), layers.Activation("linear")],
            "softmax",
        ),
        (
            [layers.Reshape((1, 6)), layers.Dense(3), layers.GlobalAveragePooling1D()],
            "linear",
        ),
        (
            [
                layers.Dense(3, activation="softmax"),
                layers.Reshape((1, 3)),
                layers.Flatten(),
            ],
            "softmax",
        ),
    ],
)
def test_heads_output_what_the_model_does(ends, activation):
    model = ki.attach_auxiliary(ending_in(*ends), ["hidden"])
    assert model.get_layer("aux_hidden").activation.__name__ == activation
    model.compile("sgd")
    images, labels = np.random.default_rng(0).normal(size=(4, 8)), np.arange(4) % 3
    outputs = model.predict(images, verbose=0)["main"]
    if activation == "linear":
        outputs = keras.ops.softmax(outputs)
    by_hand = -np.mean(np.log(np.asarray(outputs)[np.arange(4), labels]))
    logs = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert logs["main_loss"] == pytest.approx(by_hand, rel=1e-5)


def test_sequential_and_nested_models():
    base = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Conv2D(4, 3, name="inner")], name="base"
    )
    plain = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            base,
            layers.Conv2D(4, 3, name="outer"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model = ki.attach_auxiliary(plain, ["base", "outer"])
    assert model.heads == ["aux_base", "aux_outer"]
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3))
    np.testing.assert_array_equal(
        ki.detach_auxiliary(model).predict(images, verbose=0),
        plain.predict(images, verbose=0),
    )
    # the end of a sub-model has the sub-model's name, and leaves it whole
    assert ki.attach_auxiliary(plain, 1).heads == ["aux_base"]
    assert ki.attach_auxiliary(plain, ["base/inner"]).heads == ["aux_inner"]
    head = ki.AuxiliaryHead("inner", name="aux")
    with pytest.raises(ValueError, match="Name its path: 'base/inner'"):
        ki.attach_auxiliary(plain, [head])


def backbone(name="backbone", channels=3) -> keras.Model:
    """A residual block and a convolution, for pictures of any size."""
    x = inputs = keras.Input((None, None, channels))
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(x)
    y = layers.BatchNormalization(name="bn1")(x)
    y = layers.Conv2D(4, 3, padding="same", name="conv2")(y)
    x = layers.ReLU(name="block1_out")(x + y)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv3")(x)
    return keras.Model(inputs, x, name=name)


def around(*sub_models, training=None, classes=CLASSES) -> keras.Model:
    """A classifier that calls sub-models in turn."""
    x = inputs = keras.Input((16, 16, 3), name="images")
    x = layers.Rescaling(1 / 255, name="scale")(x)
    for sub_model in sub_models:
        x = sub_model(x, training=training)
    x = layers.Conv2D(8, 2, name="outer")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(classes, activation="softmax", name="classes")(x)
    return keras.Model(inputs, x, name="net")


def nested_twice() -> keras.Model:
    """A backbone in a Sequential model in the classifier."""
    inner = keras.Sequential([keras.Input((16, 16, 3)), backbone()], name="wrapped")
    return around(inner)


def called_twice() -> keras.Model:
    """A sub-model that runs twice on its own output."""
    x = inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")(x)
    twice = keras.Model(inputs, layers.ReLU(name="block1_out")(x), name="backbone")
    return around(twice, twice)


def of_other_type() -> keras.Model:
    """A backbone in half precision in a model in full precision."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = backbone()
    finally:
        keras.config.set_dtype_policy("float32")
    inputs = keras.Input((16, 16, 3), dtype="float16")
    x = layers.GlobalAveragePooling2D(name="pool")(half(inputs))
    return keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x))


def of_several() -> keras.Model:
    """A sub-model with two inputs and two outputs by name."""
    one, two = (keras.Input((16, 16, 3), name=name) for name in ("one", "two"))
    convolution = layers.Conv2D(4, 3, name="block1_out")
    outputs = {"b": convolution(one), "a": layers.Conv2D(4, 3, name="conv")(two)}
    both = keras.Model({"two": two, "one": one}, outputs, name="backbone")
    inputs = keras.Input((16, 16, 3))
    made = both({"one": inputs, "two": layers.ReLU(name="relu")(inputs)})
    x = layers.Concatenate(name="join")([made["a"], layers.ReLU(name="r")(made["b"])])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="classes")(x))


@pytest.mark.parametrize(
    ("build", "endpoint"),
    [
        (lambda: around(backbone()), "backbone/block1_out"),
        (lambda: around(backbone(), training=False), "backbone/block1_out"),
        (nested_twice, "wrapped/backbone/block1_out"),
        (called_twice, "backbone/block1_out"),
        (of_other_type, "backbone/block1_out"),
        (of_several, "backbone/block1_out"),
    ],
)
def test_heads_inside_sub_models(build, endpoint, tmp_path):
    plain = build()
    config, weights = json.dumps(plain.get_config()), plain.weights
    images, _ = examples(plain)
    before = np.asarray(plain(images))
    model = ki.attach_auxiliary(plain, [ki.AuxiliaryHead(endpoint, **SMALL)])
    assert model.heads == ["aux_block1_out"]
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    answers = model(images)
    np.testing.assert_array_equal(answers["main"], before)
    assert ki.detach_auxiliary(model) is plain
    assert json.dumps(plain.get_config()) == config
    assert {id(w) for w in weights} <= {id(w) for w in model.weights}

    model.class_names = list("abc")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is ki.DeeplySupervised
    assert again.heads == model.heads
    assert again.class_names == list("abc")
    for name, values in again(images).items():
        np.testing.assert_array_equal(values, answers[name])
    detached = ki.detach_auxiliary(again)
    assert json.dumps(detached.get_config()) == config
    np.testing.assert_array_equal(detached(images), before)


RELOAD = """
import keras, numpy as np, sys
import keras_inception as ki
model = keras.saving.load_model("model.keras")
images, labels = np.load("images.npy"), np.load("labels.npy")
np.save("heads.npy", model.predict(images, verbose=0)["aux_block1_out"])
plain = ki.detach_auxiliary(model)
plain.save("plain.keras")
np.save("main.npy", plain.predict(images, verbose=0))
model.fit(images, labels, verbose=0, shuffle=False)
np.savez("weights.npz", *model.get_weights())
ki.export.export_saved_model(model, "saved")
"""


@pytest.mark.slow
def test_a_nested_model_trains_and_continues_in_another_process(tmp_path):
    plain = around(backbone(), training=False)
    images, labels = examples(plain)
    heads = [ki.AuxiliaryHead("backbone/block1_out", **SMALL)]
    model = ki.attach_auxiliary(plain, heads)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    before = plain.get_weights()
    model.fit(images, labels, verbose=0)
    changed = zip(before, plain.get_weights(), strict=True)
    assert sum(np.any(one != other) for one, other in changed) >= 8
    answers = model.predict(images, verbose=0)
    np.testing.assert_array_equal(plain.predict(images, verbose=0), answers["main"])

    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    subprocess.run([sys.executable, "-c", RELOAD], cwd=tmp_path, check=True)
    heads = np.load(tmp_path / "heads.npy")
    np.testing.assert_allclose(heads, answers["aux_block1_out"], atol=1e-6)
    main = np.load(tmp_path / "main.npy")
    np.testing.assert_allclose(main, answers["main"], atol=1e-6)
    again = keras.saving.load_model(tmp_path / "plain.keras")
    assert [layer.name for layer in again.layers] == [x.name for x in plain.layers]
    np.testing.assert_array_equal(again.predict(images, verbose=0), answers["main"])
    # the optimizer's momentum was there as well
    model.fit(images, labels, verbose=0, shuffle=False)
    weights = np.load(tmp_path / "weights.npz").values()
    for ours, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    served = tf.saved_model.load(tmp_path / "saved" / "1").signatures
    main = served["serving_default"](images=tf.constant(images))["main"]
    expected = model.predict(images, verbose=0)["main"]
    np.testing.assert_allclose(main, expected, atol=1e-5)


def test_frozen_layers_inside_a_sub_model_stay_frozen_in_the_file(tmp_path):
    inner = backbone()
    inner.trainable = False
    model = ki.attach_auxiliary(around(inner), ["backbone/block1_out"])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, again):
        assert not one.get_layer("conv1").trainable
        assert one.get_layer("outer").trainable
        assert one.get_layer("aux_block1_out_fc").trainable


@keras.saving.register_keras_serializable("test")
class WithLayerBeside(keras.Model):
    """A functional model that keeps a layer outside its graph, as tasks do."""

    def __init__(self, name=None):
        inner = around(backbone())
        super().__init__(inner.input, inner.output, name=name)
        self.beside = layers.Dense(2, name="beside")
        self.beside.build((None, 3))

    def get_config(self):
        return {"name": self.name}


def test_weights_beside_the_graph_are_saved(tmp_path):
    plain = WithLayerBeside(name="net")
    plain.compile("adam")
    model = ki.attach_auxiliary(plain, ["backbone/block1_out"])
    model.save(tmp_path / "model.keras")
    again = ki.detach_auxiliary(keras.saving.load_model(tmp_path / "model.keras"))
    np.testing.assert_array_equal(again.beside.kernel, plain.beside.kernel)


def test_exits_split_a_sub_model():
    plain = around(backbone())
    model = ki.attach_auxiliary(plain, ["backbone/block1_out", "backbone"])
    early = ki.EarlyExit(model, {"aux_block1_out": 0.0})
    first, last = ({x.name for x in s.model.layers} for s in early.segments)
    assert {"conv1", "conv2", "aux_block1_out_fc"} < first
    assert not {"conv3", "outer"} & first
    assert {"conv3", "outer", "classes"} < last
    assert not {"conv1", "aux_backbone_fc"} & last
    images, _ = examples(plain)
    probabilities, exits = early.predict(images)
    np.testing.assert_allclose(
        probabilities, model.predict(images, verbose=0)["aux_block1_out"], atol=1e-6
    )
    assert set(exits) == {"aux_block1_out"}


def test_the_cost_of_a_sub_model_is_that_of_its_calls():
    """The backbone leaves its size open; its call does not."""
    counts = ki.multiply_adds(around(backbone()))
    assert counts == {
        "backbone/conv1": 16 * 16 * 9 * 3 * 4,
        "backbone/conv2": 16 * 16 * 9 * 4 * 4,
        "backbone/conv3": 7 * 7 * 9 * 4 * 8,
        "outer": 6 * 6 * 4 * 8 * 8,
        "classes": 8 * CLASSES,
    }
    assert ki.multiply_adds(called_twice())["backbone/conv"] == 2 * 16 * 16 * 9 * 3 * 3


@keras.saving.register_keras_serializable("test")
class WithCallAlone(keras.Model):
    """A model without a graph."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Conv2D(3, 1, name="hidden")

    def call(self, x):
        return self.hidden(x)


class WithOwnCall(keras.Model):
    """A functional model that does more than run its graph."""

    def call(self, x, training=None, mask=None):
        return 2.0 * super().call(x, training=training)


def with_own_call():
    inner = backbone()
    return WithOwnCall(inner.input, inner.output, name="backbone")


@pytest.mark.parametrize(
    ("build", "endpoint", "message"),
    [
        (
            lambda: around(WithCallAlone(name="closed")),
            "closed/hidden",
            "inside 'closed', a WithCallAlone that computes in its own `call`",
        ),
        (lambda: around(with_own_call()), "backbone/conv1", "inside 'backbone', a Wit"),
        (lambda: around(backbone()), "conv1", "Name its path: 'backbone/conv1'"),
        (lambda: around(backbone()), "net/conv1", "Name its path: 'backbone/conv1'"),
        (lambda: around(backbone()), "backbone/con", "There is no endpoint.*one/conv1"),
    ],
)
def test_endpoints_out_of_reach_are_explained(build, endpoint, message):
    with pytest.raises(ValueError, match=message):
        ki.attach_auxiliary(build(), [endpoint])


def test_layers_of_one_name_are_renamed_by_the_user():
    plain = around(backbone("one"), backbone("two", channels=8))
    one, two = ([x for x in m.operations if "add" in x.name] for m in plain.layers[2:4])
    two[0].name = one[0].name  # as in a model that was loaded
    images, _ = examples(plain)
    before = np.asarray(plain(images))
    heads = ["one/block1_out", "two/conv3"]
    for _ in range(6):  # each layer, and the sum
        with pytest.raises(ValueError, match=r"'two/.*' are both called") as error:
            ki.attach_auxiliary(plain, heads)
        exec(str(error.value).rpartition("first: ")[2], {"model": plain})
    model = ki.attach_auxiliary(plain, ["one/block1_out", "two/two_conv3"])
    np.testing.assert_array_equal(model(images)["main"], before)


def test_a_head_has_batch_normalization_if_the_model_has():
    plain = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 1, name="c")])
    for norm in (False, True):
        x = plain.outputs[0]
        x = layers.BatchNormalization()(x) if norm else x
        x = layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))
        model = ki.attach_auxiliary(keras.Model(plain.inputs, x), ["c"])
        assert any(layer.name == "aux_c_conv_bn" for layer in model.layers) is norm


def test_the_activation_is_that_of_the_call_not_of_the_layer():
    """A layer that is called twice has two inputs; the last call's counts."""
    inputs = keras.Input((8,))
    flatten = layers.Flatten()
    x = layers.Dense(6, activation="softmax", name="hidden")(flatten(inputs))
    for end, activation in (
        (flatten(layers.Dense(3)(x)), "linear"),
        (flatten(layers.Softmax()(x)), "softmax"),
    ):
        model = ki.attach_auxiliary(keras.Model(inputs, end), ["hidden"])
        assert model.get_layer("aux_hidden").activation.__name__ == activation


def two_outputs():
    inputs = keras.Input((4,))
    outputs = {name: layers.Dense(3, name=name)(inputs) for name in "ab"}
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    ("model", "heads", "message"),
    [
        (lambda: ending_in(layers.Dense(3)), ["hiden"], "no endpoint 'hiden'.*hidden"),
        (lambda: ending_in(layers.Dense(3)), 2, "heads=2 must be.*at most 1.*hidden"),
        (lambda: ending_in(layers.Dense(3)), 0, "heads=0 must be at least 1"),
        (
            lambda: ending_in(layers.Dense(3)),
            "hidden",
            "heads is a list of names; write",
        ),
        (lambda: ending_in(layers.Dense(3)), [3], "Received: 3 of type int"),
        (lambda: ending_in(layers.Dense(3, "sigmoid")), 1, "activation is 'sigmoid'"),
        (lambda: ending_in(layers.Dense(1, "sigmoid")), 1, "at least two classes"),
        (two_outputs, 1, "has 2: a, b"),
        (lambda: keras.Sequential([layers.Dense(3)]), 1, "needs a functional model"),
        (lambda: ki.GoogLeNet((32, 32, 3), 3, width=0.1), 1, "detach_auxiliary"),
    ],
)
def test_models_and_heads_that_do_not_fit_are_named(model, heads, message):
    with pytest.raises(ValueError, match=message):
        ki.attach_auxiliary(model(), heads)
