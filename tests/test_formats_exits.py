"""Early exits as one ONNX or OpenVINO file, asked in its own runtime."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import bright_and_dark
from keras import layers

import keras_inception as ki
from keras_inception.early_exit.confidence import MEASURES, softmax
from keras_inception.export.sessions import open_session
from keras_inception.server.limits import Batching, ServingError
from keras_inception.server.servable import Servable

onnx = pytest.importorskip("onnx", reason="extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="extra onnx")
pytest.importorskip("tf2onnx", reason="extra onnx")
openvino = pytest.importorskip("openvino", reason="extra openvino")

CLASSES = 3
FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
SETTINGS = {"confidence": "entropy", "temperatures": {"aux_inside1": 1.7}}


@pytest.fixture(scope="module")
def model():
    """Logits, heads within blocks, and a layer that reads the pictures again.

    So several tensors go from segment to segment, and one past a segment.
    """
    keras.utils.set_random_seed(5)
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for index in range(2):
        inside = layers.Conv2D(3, 3, padding="same", name=f"inside{index}")(x)
        more = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(inside))
        x = layers.Add(name=f"sum{index}")([x, layers.ReLU()(more)])
    x = layers.Concatenate()([x, inputs])
    x = layers.GlobalAveragePooling2D()(ki.LocalResponseNormalization()(x))
    plain = keras.Model(inputs, layers.Dense(CLASSES)(x))
    heads = [ki.AuxiliaryHead(f"inside{i}", filters=4, units=8) for i in range(2)]
    model = ki.attach_auxiliary(plain, heads)
    model.class_names = ["ant", "bee", "cat"]
    return model


@pytest.fixture(scope="module")
def images():
    return bright_and_dark()


@pytest.fixture(scope="module")
def early(model, images):
    return ki.EarlyExit(model, thresholds_at(model, images, 0.6, 0.4), **SETTINGS)


@pytest.fixture(scope="module", params=list(FILES))
def written(request, early, tmp_path_factory):
    """The file of each format, with calibrated thresholds."""
    folder = tmp_path_factory.mktemp("exits")
    return ki.export.export_format(early.model, folder, request.param, early_exit=early)


def thresholds_at(model, images, *shares):
    """Thresholds that some shares of the pictures do not reach."""
    unset = ki.EarlyExit(model, {"aux_inside0": 1, "aux_inside1": 1}, **SETTINGS)
    answers = model.predict(images, verbose=0)
    return {
        name: float(np.quantile(unset.confidences(name, softmax(answers[name])), share))
        for name, share in zip(unset.thresholds, shares, strict=True)
    }


def test_answers_and_exits_are_those_of_predict(written, early, images):
    run = open_session(written).run
    order = [segment.name for segment in early.segments]
    random = np.random.default_rng(2)
    seen = set()
    for _ in range(4):
        chosen = thresholds_at(early.model, images, *random.uniform(size=2))
        expected, exits = ki.EarlyExit(early.model, chosen, **SETTINGS).predict(images)
        given = np.array([*chosen.values()], "float32")
        for count in (1, 7, 23):
            answer = run({"images": images[:count], "thresholds": given})
            found = [order[index] for index in answer["exit"]]
            # at quantiles the confidence of one picture is the threshold itself
            same = np.array(found) == exits[:count]
            assert same.sum() >= count - 2
            np.testing.assert_allclose(
                answer["main"][same], expected[:count][same], atol=1e-5
            )
            seen |= set(found)
        assert answer["exit"].dtype == np.int64
        assert answer["main"].dtype == np.float32
    assert seen == set(order)


def test_thresholds_default_to_the_calibrated_ones(written, early, images):
    session = open_session(written)
    assert session.thresholds == early.thresholds
    assert list(early.thresholds) == list(session.thresholds)
    given = np.array([*early.thresholds.values()], "float32")
    default = session.run({"images": images})
    for name, array in session.run({"images": images, "thresholds": given}).items():
        np.testing.assert_array_equal(default[name], array)
    assert len(set(default["exit"])) > 1
    content = json.loads(written.with_name("exits.json").read_text())
    assert content["thresholds"] == early.thresholds
    assert written.with_name("labels.txt").read_text() == "ant\nbee\ncat\n"
    np.testing.assert_array_equal(ki.export.open_file(written)(images), default["main"])


def test_what_no_picture_needs_is_not_computed(written, images, tmp_path):
    never, always = np.array([[2, 2], [-1, -1]], "float32")
    if written.suffix == ".xml":
        read = openvino.Core().read_model(written)
        assert count_convolutions(read) == [2, 4]
        return
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.log_severity_level = True, 3
    options.profile_file_prefix = str(tmp_path / "profile")
    ran = []
    for thresholds in (never, always):
        session = onnxruntime.InferenceSession(written, options)
        session.run(None, {"images": images, "thresholds": thresholds})
        with open(session.end_profiling()) as file:
            events = json.load(file)
        names = [e["name"] for e in events if e.get("args", {}).get("op_name")]
        ran.append(sum("conv" in name.lower() for name in names))
    assert 0 < ran[1] < ran[0]


def count_convolutions(model):
    """Convolutions of an OpenVINO model outside of its condition, and inside of it."""
    outside = inside = 0
    for operation in model.get_ops():
        if operation.get_type_name() == "If":
            inside += sum(count_convolutions(operation.get_function(0)))
        outside += operation.get_type_name() == "Convolution"
    return [outside, inside]


def test_a_server_offers_early_exits_as_of_a_saved_model(written, early, images):
    servable = Servable(written.parent, Batching(), 10**6)
    pixels = images.astype("uint8")
    files = np.array([tf.io.encode_png(image).numpy() for image in pixels], object)
    pixels = pixels.astype("float32")
    never = ki.EarlyExit(early.model, {}).predict(pixels)
    for signature, of_files, (expected, exits) in (
        ("serving_default", "serving_bytes", never),
        ("serving_early_exit", "serving_bytes_early_exit", early.predict(pixels)),
    ):
        found = servable.predict(signature, {"images": pixels})
        ranked = servable.predict(of_files, {"image_bytes": files})
        outputs = {"exit"} if "early" in signature else set()
        assert set(found) == {"main"} | outputs
        assert set(ranked) == {"classes", "scores"} | outputs
        same = np.ones(len(exits), bool)
        if outputs:
            same = found["exit"].astype(str) == exits  # but for ties
            assert same.sum() >= len(exits) - 2
            np.testing.assert_array_equal(ranked["exit"], found["exit"])
        np.testing.assert_allclose(found["main"][same], expected[same], atol=1e-4)
        best = np.array([b"ant", b"bee", b"cat"], object)[found["main"].argmax(-1)]
        np.testing.assert_array_equal(ranked["classes"][:, 0], best)
        for name, array in servable.predict(signature, {"images": pixels[:0]}).items():
            assert array.shape == (0, *found[name].shape[1:])
            assert array.dtype == found[name].dtype
        for name, info in servable.definitions[of_files].outputs.items():
            assert tf.as_dtype(info.dtype) == tf.as_dtype(ranked[name].dtype)
    assert set(servable.exits) == {"aux_inside0", "aux_inside1", "main"}
    with pytest.raises(ServingError, match="thresholds"):
        servable.predict("", {"images": images, "thresholds": images})
    servable.close()


@pytest.mark.parametrize("format", list(FILES))
def test_integers_choose_thresholds_anew(early, images, format, tmp_path):
    labels = early.model.predict(images, verbose=0)["main"].argmax(-1)
    settings = {"calibration": [images], "held_out": (images, labels)}
    path = ki.export.export_format(
        early.model, tmp_path, format, early_exit=early, **settings
    )
    session = open_session(path)
    answer = session.run({"images": images})
    never = np.array([2, 2], "float32")
    main = session.run({"images": images, "thresholds": never})["main"]
    floats = softmax(early.model.predict(images, verbose=0)["main"])
    assert 0 < abs(main - floats).mean() < 0.03  # 0 would be floats
    written = json.loads(path.with_name("exits.json").read_text())
    assert written["calibration"]["examples"] == 23
    assert written["thresholds"] == session.thresholds
    accuracy = np.mean(answer["main"].argmax(-1) == labels)
    assert accuracy == pytest.approx(written["calibration"]["chosen"]["accuracy"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "litert"}, "litert is not supported with early exits.*onnx, openv"),
        ({"calibration": []}, "held_out chooses thresholds for answers in 8-bit"),
        ({"held_out": (0, 0)}, "held_out chooses thresholds for answers in 8-bit"),
    ],
)
def test_exits_that_cannot_be_written_are_refused(early, tmp_path, arguments, message):
    settings = {"format": "onnx", "early_exit": early, **arguments}
    with pytest.raises(ValueError, match=message):
        ki.export.export_format(early.model, tmp_path, **settings)
    assert not list(tmp_path.iterdir())


def test_exits_of_another_model_are_refused(early, tmp_path):
    other = keras.models.clone_model(early.model)
    with pytest.raises(ValueError, match="belongs to another model"):
        ki.export.export_format(other, tmp_path, "onnx", early_exit=early)


def test_a_model_without_useful_exits_is_written_as_well(model, images, tmp_path):
    path = ki.export.export_format(
        model, tmp_path, "onnx", early_exit=ki.EarlyExit(model, {})
    )
    answer = open_session(path).run({"images": images})
    expected = softmax(model.predict(images, verbose=0)["main"])
    np.testing.assert_allclose(answer["main"], expected, atol=1e-5)
    assert set(answer["exit"]) == {0}


def test_the_measure_of_confidence_is_in_the_graph(model, images, tmp_path):
    answers = {n: softmax(a) for n, a in model.predict(images, verbose=0).items()}
    confidence = MEASURES["max_probability"](answers["aux_inside0"])
    middle = float(np.sort(confidence)[11:13].mean())
    early = ki.EarlyExit(model, {"aux_inside0": middle})
    path = ki.export.export_format(model, tmp_path, "onnx", early_exit=early)
    found = open_session(path).run({"images": images})["exit"]
    np.testing.assert_array_equal(found, np.where(confidence >= middle, 0, 1))
