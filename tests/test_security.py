"""What SECURITY.md says of files from strangers, tried."""

import io
import json
import pickle
import struct
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_supervised
from PIL import Image

import keras_inception as ki
import keras_inception_cli
from keras_inception import training
from keras_inception.server.runtime_files import load_file


class Malice:
    """Pickles as a call that writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture
def proof(tmp_path):
    """A file that exists once a stranger's code has run."""
    return tmp_path / "proof"


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The members of a `.keras` file."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    small_supervised().save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def changes(kind, tmp_path, proof):
    """A layer's entry in config.json that would run a stranger's code."""
    (tmp_path / "stranger.py").write_text(
        f"open({str(proof)!r}, 'w')\nclass Layer: pass\n"
    )
    arguments = {"name": "x", "filepath": str(tmp_path / "saved_model")}
    return {
        "their module": {"module": "stranger", "class_name": "Layer"},
        "a command": {
            "module": "os",
            "class_name": "system",
            "config": f"touch {proof}",
        },
        "a SavedModel": {
            "module": "keras.layers",
            "class_name": "TFSMLayer",
            "config": arguments,
        },
    }[kind]


@pytest.mark.parametrize("kind", ["their module", "a command", "a SavedModel"])
def test_a_keras_file_runs_no_code(kind, members, tmp_path, proof, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= changes(kind, tmp_path, proof)
    config["config"]["layers"][1]["registered_name"] = None
    model = tmp_path / "model.keras"
    write_members(model, members | {"config.json": json.dumps(config).encode()})
    assert keras_inception_cli.main(["export", str(model)]) == 1
    error = capsys.readouterr().err
    assert f"{model} can't be loaded" in error
    assert error.count("\n") == 1
    assert "stranger" not in sys.modules
    assert not proof.exists()


def test_a_lambda_is_refused(tmp_path, proof, capsys):
    images = keras.Input((4,))
    code = eval(f"lambda x: (open({str(proof)!r}, 'w').close(), x)[1]")
    keras.Model(images, keras.layers.Lambda(code)(images)).save(tmp_path / "m.keras")
    proof.unlink()  # building the model ran it
    assert keras_inception_cli.main(["export", str(tmp_path / "m.keras")]) == 1
    assert "disallowed by default" in capsys.readouterr().err
    assert not proof.exists()


def test_a_checkpoint_with_a_pickle_or_a_slip_writes_nothing(members, tmp_path, proof):
    seeds = io.BytesIO()
    np.savez(seeds, **{"0": np.array([Malice(str(proof))], dtype=object)})
    state = {"epochs": 1, "history": [], "best": {}, "alarms": {}, "seconds": 0}
    stranger = {
        "run_seeds.npz": seeds.getvalue(),
        "run_state.json": json.dumps(state).encode(),
    }
    write_members(tmp_path / "latest.keras", members | stranger)
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        training.load_checkpoint(tmp_path / "latest.keras")
    (tmp_path / "in").mkdir()
    write_members(tmp_path / "in/slip.keras", members | {"../proof": b"x"})
    with pytest.warns(UserWarning, match="Skipping invalid path"):
        keras.saving.load_model(tmp_path / "in/slip.keras")
    assert not proof.exists()


def test_a_pth_file_runs_no_code(tmp_path, proof, capsys):
    content = pickle.dumps({"fc.weight": Malice(str(proof))}, protocol=2)
    (tmp_path / "m.pth").write_bytes(content)
    words = ["convert", "torchvision", tmp_path / "m.pth", tmp_path / "m.keras"]
    assert keras_inception_cli.main(list(map(str, words))) == 1
    assert "may run code. It was not loaded" in capsys.readouterr().err
    assert not proof.exists()


def test_a_saved_model_is_a_program(tmp_path, proof):
    """The reason why SECURITY.md advises against strangers' SavedModels."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def answer(image_bytes):
        tf.io.write_file(str(proof), "x")
        classes = tf.fill([tf.size(image_bytes), 1], "cat")
        return {"classes": classes, "scores": tf.ones_like(classes, tf.float32)}

    tf.saved_model.save(tf.Module(), tmp_path / "m", {"serving_bytes": answer})
    Image.fromarray(np.zeros((4, 4, 3), "uint8")).save(tmp_path / "x.png")
    assert ki.export.load_classifier(tmp_path / "m")(tmp_path / "x.png")
    assert proof.exists()


@pytest.mark.parametrize("at", ["../../secret", "absolute"])
def test_an_onnx_file_reads_no_file_outside_its_directory(at, tmp_path, proof):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    proof.write_bytes(bytes(4 * 192 * 3))
    (tmp_path / "secret").symlink_to(proof)
    make, directory = onnx.helper, tmp_path / "model/1"
    weights = onnx.TensorProto(name="w", data_type=1, dims=[192, 3], data_location=1)
    place = str(proof) if at == "absolute" else at
    weights.external_data.add(key="location", value=place)
    nodes = [
        make.make_node("Flatten", ["images"], ["flat"]),
        make.make_node("MatMul", ["flat", "w"], ["main"]),
    ]
    images = make.make_tensor_value_info("images", 1, [None, 8, 8, 3])
    main = make.make_tensor_value_info("main", 1, [None, 3])
    graph = make.make_graph(nodes, "graph", [images], [main], [weights])
    opset = [make.make_opsetid("", 13)]
    model = make.make_model(graph, opset_imports=opset, ir_version=8)
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RuntimeError, match="xternal data"):
        load_file(directory / "model.onnx", "onnx")


@pytest.mark.parametrize(
    ("shape", "end", "size"), [([1000], 2**40, 12), ([2**31, 2**31], 12, 12)]
)
def test_a_safetensors_file_is_read_within_its_bounds(shape, end, size, tmp_path):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
    head = json.dumps({"conv1.conv.weight": entry}).encode()
    content = struct.pack("<Q", len(head)) + head + bytes(size)
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"conv1\.conv\.weight is not inside the file"):
        ki.weights.load_torchvision(tmp_path / "m.safetensors")
