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


def below(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def weights_of(model):
    return {
        weight.path: weight.numpy()
        for weight in model.weights
        if "seed_generator" not in weight.path
    }


@pytest.fixture(scope="module")
def published(reference):
    """The weights of the plain state dict."""
    return weights_of(ki.weights.load_torchvision(reference["state"]))


class Settings:
    """What a training script saves beside the weights; its class is not imported."""


def checkpoint(state, tmp_path, case):
    """A checkpoint file as training scripts write them."""
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    other = {
        name: value + 1 if value.is_floating_point() else value
        for name, value in state.items()
    }
    rest = {
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "best": np.float64(0.5),
        "args": Settings(),
        "where": tmp_path,
    }
    without_fc = {name: x for name, x in state.items() if not name.startswith("fc.")}
    classifier = {"weight": state["fc.weight"], "bias": state["fc.bias"]}
    content = {
        "boxed": {"model": below("module._orig_mod.", state), **rest},
        "lightning": {
            "state_dict": below("model.", other)
            | below("model_ema.module.", state)
            | {"model_ema.updates": torch.tensor(3), "criterion.weight": torch.ones(7)},
            **rest,
        },
        "swa": below("module.", state) | {"n_averaged": torch.tensor(3)},
        "backbone": below("net.backbone.", without_fc)
        | below("net.head.1.", classifier),
        "bfloat16": {
            name: value.bfloat16() if value.is_floating_point() else value
            for name, value in state.items()
        },
    }[case]
    path = tmp_path / f"{case}.pth"
    torch.save(content, path, _use_new_zipfile_serialization=case != "boxed")
    return path


@pytest.mark.parametrize(
    ("case", "arguments"),
    [
        ("boxed", {}),
        ("lightning", {"averages": True, "ignore": ["criterion"]}),
        pytest.param("swa", {}, marks=pytest.mark.slow),
        pytest.param("backbone", {}, marks=pytest.mark.slow),
        pytest.param("backbone", {"classifier": "head.1"}, marks=pytest.mark.slow),
        pytest.param("bfloat16", {}, marks=pytest.mark.slow),
    ],
)
def test_the_network_is_found_in_checkpoints_of_training(
    state, published, tmp_path, case, arguments
):
    path = checkpoint(state, tmp_path, case)
    found = weights_of(ki.weights.load_torchvision(path, **arguments))
    assert set(found) == set(published)
    tolerance = 2**-8 if case == "bfloat16" else 0
    for name, value in found.items():
        np.testing.assert_allclose(value, published[name], tolerance, err_msg=name)


@pytest.mark.slow
def test_a_state_dict_in_half_precision_is_taken_from_torch(state, published):
    state = {name: x.bfloat16() for name, x in state.items()}
    found = weights_of(ki.weights.load_torchvision({"ema": state, "epoch": 3}))
    for name, value in found.items():
        np.testing.assert_allclose(value, published[name], 2**-8, err_msg=name)


def test_checkpoints_that_are_not_clear_are_rejected(state, tmp_path):
    noheads = {name: x for name, x in state.items() if not name.startswith("aux")}
    tuned = state | {"fc.weight": torch.ones(3, 1024), "fc.bias": torch.ones(3)}
    two = below("net.", noheads) | {
        "b.weight": torch.ones(9, 1024),
        "b.bias": torch.ones(9),
    }
    del two["net.fc.weight"], two["net.fc.bias"]
    two |= {"a.weight": torch.ones(7, 1024), "a.bias": torch.ones(7)}
    for content, arguments, message in (
        ({"student": state, "teacher": state}, {}, "networks: 'student', 'teacher'"),
        (state, {"averages": True}, "has no averages of its weights"),
        (tuned, {}, r"main 3, aux_4a 7, aux_4d 7.*--no-heads"),
        (two, {}, r"several layers.*'b', 'a'.*--classifier"),
        (two, {"classifier": "c"}, "no layer 'c'"),
        (noheads, {"auxiliary": ["aux_4a"]}, "no head 'aux_4a'"),
        (noheads | {"module.fc.bias": torch.ones(7)}, {}, "twice, with and without"),
    ):
        with pytest.raises(ValueError, match=message):
            ki.weights.load_torchvision(content, **arguments)
    tuned = ki.weights.load_torchvision(tuned, auxiliary=())
    assert (list(tuned.output), tuned.class_names) == (["main"], None)


def test_a_whole_module_is_refused_and_not_made(tmp_path):
    module = torch.nn.Linear(2, 2)
    for name, content, zipped in (
        ("zip", module, True),
        ("legacy", module, False),
        ("boxed", {"model": module, "epoch": 3}, True),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"asks for torch\.nn.*Linear.*state_dict"):
            ki.weights.load_torchvision(path)
    with pytest.raises(FileNotFoundError, match="is a directory"):
        ki.weights.load_torchvision(tmp_path)


def test_a_pickle_with_code_is_rejected_and_not_run(tmp_path):
    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "proof"),)

    malicious = pickle.dumps({"fc.weight": Malice(), Malice(): 1}, protocol=2)
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
