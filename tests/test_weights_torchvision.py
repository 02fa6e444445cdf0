"""Compares the converted model, heads included, with torchvision's own network."""

import os
import pickle
import zipfile

import numpy as np
import pytest
from comparing import (
    TORCHVISION_STEM,
    endpoints,
    relative_difference,
    torchvision_state,
)

import keras_inception as ki
from benchmarks.torchvision_import import import_torchvision
from keras_inception.weights import torch_file

torch = pytest.importorskip("torch")

STAGES = TORCHVISION_STEM | {
    "pool1_3x3_s2": "maxpool1",
    "pool2_3x3_s2": "maxpool2",
    "pool3_3x3_s2": "maxpool3",
    "pool4_3x3_s2": "maxpool4",
    **{
        f"inception_{block}": f"inception{block}"
        for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    },
}
CLASSES = 7


@pytest.fixture(scope="module")
def torchvision():
    try:
        return import_torchvision()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision can't be imported beside this torch: {error}")


@pytest.fixture(scope="module")
def theirs(torchvision):
    torch.manual_seed(0)
    network = torchvision.models.googlenet(
        weights=None,
        init_weights=False,
        aux_logits=True,
        num_classes=CLASSES,
        transform_input=True,
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.2, 0.3)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.05, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype("float32")


@pytest.mark.parametrize("transform_input", [True, False])
def test_every_endpoint_and_output_equals_torchvisions(theirs, images, transform_input):
    theirs.transform_input = transform_input
    seen = {}
    modules = {**STAGES, "aux_4a": "aux1", "aux_4d": "aux2", "main": "fc"}
    hooks = [
        getattr(theirs, module).register_forward_hook(
            lambda _, __, output, name=name: seen.__setitem__(name, output)
        )
        for name, module in modules.items()
    ]
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    pixels = torch.tensor(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        theirs((pixels - mean) / deviation)
        # in its own forward pass the heads run with dropout and batch statistics only
        theirs.aux1(seen["inception_4a"])
        theirs.aux2(seen["inception_4d"])
    for hook in hooks:
        hook.remove()

    model = ki.weights.load_torchvision(theirs.state_dict(), transform_input)
    ours = endpoints(model, ki.GOOGLENET_TORCHVISION, images)

    assert list(model.output) == ["main", "aux_4a", "aux_4d"]
    for name, output in seen.items():
        if name in model.output:
            output = torch.softmax(output, -1)
        else:
            output = output.permute(0, 2, 3, 1)
        assert relative_difference(ours[name], output.numpy()) < 1e-4, name


def test_a_state_dict_written_by_hand_has_torchvisions_names(theirs):
    """Checks `torchvision_state`, which writes the files of the other tests."""
    model = ki.weights.load_torchvision(theirs.state_dict())
    expected = {
        name: value
        for name, value in theirs.state_dict().items()
        if not name.startswith("aux") and not name.endswith("num_batches_tracked")
    }
    found = torchvision_state(ki.detach_auxiliary(model))
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), value.numpy(), name)


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
def test_files_are_read_without_torch(theirs, tmp_path, container):
    state = {
        name: tensor
        for name, tensor in theirs.state_dict().items()
        if not name.startswith("aux")
    }
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


def test_missing_unexpected_and_wrong_tensors_are_named(theirs):
    state = theirs.state_dict()
    state["fc.bias"] = state["fc.bias"][:3]
    state["extra"] = torch.zeros(1)
    del state["inception4c.branch2.1.conv.weight"]
    with pytest.raises(ValueError, match="Nothing was loaded") as raised:
        ki.weights.load_torchvision(state)
    message = str(raised.value)
    assert "lacks 'inception4c.branch2.1.conv.weight'" in message
    assert "has unexpected tensors: 'extra'" in message
    assert "fc.bias (3,) (does not fit (7,)" in message


def test_infinite_weights_are_rejected(theirs):
    state = theirs.state_dict() | {"fc.bias": torch.full((CLASSES,), torch.inf)}
    with pytest.raises(ValueError, match=r"fc\.bias \(has NaN or infinite"):
        ki.weights.load_torchvision(state)


def test_files_of_another_kind_are_rejected(theirs, tmp_path):
    torch.save({"conv.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"lacks the classifier fc\.weight"):
        ki.weights.load_torchvision(tmp_path / "other.pth")
    torch.save(theirs.state_dict(), tmp_path / "whole.pth")
    data = (tmp_path / "whole.pth").read_bytes()
    for share in (0.0, 0.001, 0.5, 0.99):
        (tmp_path / "cut.pth").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=r"cut\.pth can't be read"):
            ki.weights.load_torchvision(tmp_path / "cut.pth")
    torch.save(theirs.state_dict(), tmp_path / "old.pth", pickle_protocol=2)
    with pytest.raises(
        FileNotFoundError, match=r"weights file .*nowhere\.pth does not exist"
    ):
        ki.weights.load_torchvision(tmp_path / "nowhere.pth")


def test_a_truncated_legacy_file_is_rejected(theirs, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save(theirs.state_dict(), path, _use_new_zipfile_serialization=False)
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
