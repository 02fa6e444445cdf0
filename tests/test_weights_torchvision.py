"""Compares the converted model, heads included, with torchvision's own network."""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from comparing import (
    endpoints,
    relative_difference,
    torchvision_state,
)

import keras_inception as ki
from keras_inception.weights import torch_file

torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).with_name("torchvision_reference.py")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """torchvision's weights, the images, and what its modules compute of them."""
    file = tmp_path_factory.mktemp("torchvision") / "reference.pt"
    words = [sys.executable, SCRIPT, file]
    done = subprocess.run(words, capture_output=True, text=True)
    if "No module named 'torchvision'" in done.stderr:
        pytest.skip("torchvision is not installed")
    assert done.returncode == 0, done.stderr
    return torch.load(file, weights_only=True)


@pytest.fixture
def state(reference):
    """torchvision's own state dict, a new copy for each test."""
    return reference["state"].copy()


@pytest.mark.parametrize("transform_input", [True, False])
def test_every_endpoint_and_output_equals_torchvisions(
    reference, state, transform_input
):
    model = ki.weights.load_torchvision(state, transform_input)
    ours = endpoints(model, ki.GOOGLENET_TORCHVISION, reference["images"].numpy())

    assert list(model.output) == ["main", "aux_4a", "aux_4d"]
    outputs = reference["outputs"][str(transform_input)]
    assert len(outputs) == 19
    for name, output in outputs.items():
        if name in model.output:
            output = torch.softmax(output, -1)
        else:
            output = output.permute(0, 2, 3, 1)
        assert relative_difference(ours[name], output.numpy()) < 1e-4, name


def test_a_state_dict_written_by_hand_has_torchvisions_names(state):
    """Checks `torchvision_state`, which writes the files of the other tests."""
    model = ki.weights.load_torchvision(state)
    expected = {
        name: value
        for name, value in state.items()
        if not name.startswith("aux") and not name.endswith("num_batches_tracked")
    }
    found = torchvision_state(ki.detach_auxiliary(model))
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), value.numpy(), name)


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
def test_files_are_read_without_torch(state, tmp_path, container):
    for name in [name for name in state if name.startswith("aux")]:
        del state[name]
    path = tmp_path / "googlenet.pth"
    if container == "safetensors":
        path = path.with_suffix(".safetensors")
        save_safetensors(path, state)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=container == "zip")

    model = ki.weights.load_torchvision(path)

    assert list(model.output) == ["main"]
    np.testing.assert_array_equal(
        model.get_layer("main_classifier").kernel, state["fc.weight"].numpy().T
    )


def test_views_and_half_precision_are_read(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    state = {
        "transposed": whole.T,
        "part": whole[1:3, 2:5],
        "half": whole.half(),
        "bfloat16": whole.bfloat16(),
        "parameter": torch.nn.Parameter(whole),
        "scalar": torch.tensor(3),
    }
    torch.save(state, tmp_path / "views.pt")
    tensors = torch_file.read_tensors(tmp_path / "views.pt")
    for name, tensor in state.items():
        np.testing.assert_array_equal(tensors[name], tensor.detach().float().numpy())


def test_a_pickle_with_code_is_rejected_and_not_run(tmp_path):
    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "proof"),)

    malicious = pickle.dumps({"fc.weight": Malice()}, protocol=2)
    (tmp_path / "legacy.pth").write_bytes(malicious)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("archive/data.pkl", malicious)
    for name in ("legacy.pth", "zip.pth"):
        with pytest.raises(ValueError, match=r"asks for (posix|nt)\.mkdir.*run code"):
            ki.weights.load_torchvision(tmp_path / name)
    assert not (tmp_path / "proof").exists()


def test_missing_unexpected_and_wrong_tensors_are_named(state):
    state["fc.bias"] = state["fc.bias"][:3]
    state["extra"] = torch.zeros(1)
    del state["inception4c.branch2.1.conv.weight"]
    with pytest.raises(ValueError, match="Nothing was loaded") as raised:
        ki.weights.load_torchvision(state)
    message = str(raised.value)
    assert "lacks 'inception4c.branch2.1.conv.weight'" in message
    assert "has unexpected tensors: 'extra'" in message
    assert "fc.bias (3,) (does not fit (7,)" in message


def test_infinite_weights_are_rejected(state):
    state["fc.bias"] = torch.full((7,), torch.inf)
    with pytest.raises(ValueError, match=r"fc\.bias \(has NaN or infinite"):
        ki.weights.load_torchvision(state)


def test_files_of_another_kind_are_rejected(state, tmp_path):
    torch.save({"conv.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"lacks the classifier fc\.weight"):
        ki.weights.load_torchvision(tmp_path / "other.pth")
    torch.save(state, tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    for share in (0.0, 0.001, 0.5, 0.99):
        (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=r"cut\.pth can't be read"):
            ki.weights.load_torchvision(tmp_path / "cut.pth")
    torch.save(state, tmp_path / "old.pth", pickle_protocol=2)
    with pytest.raises(
        FileNotFoundError, match=r"weights file .*nowhere\.pth does not exist"
    ):
        ki.weights.load_torchvision(tmp_path / "nowhere.pth")


def test_a_truncated_legacy_file_is_rejected(state, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.pth can't be read"):
        ki.weights.load_torchvision(path)


def save_safetensors(path, state):
    """Writes the documented format: length, JSON header, numbers."""
    import json

    header, pieces, at = {}, [], 0
    for name, tensor in state.items():
        data = tensor.numpy().tobytes()
        header[name] = {
            "dtype": {"float32": "F32", "int64": "I64"}[str(tensor.numpy().dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(data)],
        }
        pieces.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(pieces))
