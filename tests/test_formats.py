"""ONNX, OpenVINO and LiteRT files, asked in their own runtimes."""

import importlib.util

import keras
import numpy as np
import pytest
from conftest import tiny_googlenet

import keras_inception as ki
from keras_inception.export import formats, quantization


@pytest.fixture(scope="module")
def model():
    """Small, and with what GoogLeNet has that a converter may not know."""
    keras.utils.set_random_seed(7)  # with this seed the classes below differ
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = ki.LocalResponseNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    model.class_names = ["ant", "bee", "cat"]
    return model


@pytest.mark.parametrize("name", sorted(formats.FORMATS))
def test_each_runtime_answers_as_keras_does(model, tmp_path, name):
    check(model, tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(formats.FORMATS))
@pytest.mark.parametrize("batch_norm", [False, True])
def test_each_runtime_answers_as_googlenet_does(tmp_path, name, batch_norm):
    model = tiny_googlenet(batch_norm=batch_norm)
    model.class_names = ["ant", "bee", "cat"]
    check(model, tmp_path, name)


def check(model, tmp_path, name):
    format = formats.FORMATS[name]
    for package in format.packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra {name})")
    path = ki.export.export_format(model, tmp_path, name)
    assert path == tmp_path / "1" / format.file
    assert (tmp_path / "1/labels.txt").read_text() == "ant\nbee\ncat\n"
    shape = (2, *model.input.shape[1:])
    images = np.random.default_rng(1).uniform(0, 255, shape).astype("float32")
    expected = model.predict(images, verbose=0)
    if isinstance(expected, dict):
        expected = expected["main"]
    np.testing.assert_allclose(format.open(str(path))(images), expected, atol=1e-5)


def test_a_format_whose_answers_differ_is_not_written(model, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="extra openvino")
    wrong = formats.FORMATS["openvino"]._replace(
        open=lambda path: lambda images: np.zeros((3, 3))
    )
    monkeypatch.setitem(formats.FORMATS, "openvino", wrong)
    with pytest.raises(RuntimeError, match="answers of openvino differ"):
        ki.export.export_format(model, tmp_path, "openvino")
    assert not list(tmp_path.iterdir())


def test_an_exporter_that_fails_says_why(model, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="extra openvino")

    def broken(path):
        raise KeyError("an operation")

    failing = formats.FORMATS["openvino"]._replace(open=broken)
    monkeypatch.setitem(formats.FORMATS, "openvino", failing)
    with pytest.raises(RuntimeError, match="as openvino: KeyError: 'an operation'"):
        ki.export.export_format(model, tmp_path, "openvino")
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_refused(model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'coreml'\. Known: litert, onnx, openvino"):
        ki.export.export_format(model, tmp_path, "coreml")
    missing = formats.FORMATS["onnx"]._replace(packages=("none_such",))
    monkeypatch.setitem(formats.FORMATS, "onnx", missing)
    with pytest.raises(RuntimeError, match=r"pip install '.\[onnx"):
        ki.export.export_format(model, tmp_path, "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_integers_answer_nearly_as_floats_do(model, tmp_path, name):
    for package in quantization.QUANTIZED[name]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra {name})")
    random = np.random.default_rng(2)
    colors = random.uniform(0, 255, (64, 1, 1, 3))  # gray noise is all of one class
    images = (colors + random.normal(0, 10, (64, 32, 32, 3))).clip(0, 255)
    images = images.astype("float32")
    batches = (images[:32], images[32:])
    path = ki.export.export_format(model, tmp_path, name, calibration=batches)
    answer = ki.export.open_file(path)(images)
    expected = model.predict(images, verbose=0)
    assert 0 < abs(answer - expected).mean() < 0.03  # 0 would be floats
    assert len(set(expected.argmax(-1))) > 1
    assert (answer.argmax(-1) == expected.argmax(-1)).mean() > 0.9
    if name == "onnx":
        nodes = pytest.importorskip("onnx").load(path).graph.node
        assert "QuantizeLinear" in {node.op_type for node in nodes}


def test_integers_of_other_formats_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="litert is not supported in 8-bit integers"):
        ki.export.export_format(model, tmp_path, "litert", calibration=[])
    with pytest.raises(ValueError, match=r"model\.onnx.*Received: .*labels\.txt"):
        ki.export.open_file(tmp_path / "labels.txt")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extras(model, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in ("tf2onnx", "onnxruntime") else find_spec(name),
    )
    with pytest.raises(RuntimeError, match=r"pip install '.\[onnx\]'"):
        ki.export.export_format(model, tmp_path, "onnx")
    integers = r"tf2onnx and onnxruntime, .*pip install '.\[onnx,openvino\]'"
    with pytest.raises(RuntimeError, match=integers):
        ki.export.export_format(model, tmp_path, "openvino", calibration=[])
    assert not list(tmp_path.iterdir())
