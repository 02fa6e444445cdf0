"""The command line of `convert` and of fine-tuning with `train`."""

import json

import keras
import numpy as np
import pytest
from comparing import torchvision_state
from conftest import tiny_googlenet

import keras_inception as ki
import keras_inception_cli
from keras_inception.data import load_picture


def command(*words):
    return keras_inception_cli.main([str(word) for word in words])


def test_convert_writes_a_model_that_predict_takes(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    model = ki.GoogLeNet(
        auxiliary=(), architecture=ki.GOOGLENET_TORCHVISION, batch_norm=True
    )
    torch.save(torchvision_state(model), tmp_path / "googlenet.pth")
    out = tmp_path / "converted" / "googlenet.keras"

    assert command("convert", "torchvision", tmp_path / "googlenet.pth", out) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "googlenet_torchvision: 6,639,464 parameters, 1,000 classes, auxiliary heads: "
        "none in the file",
        f"wrote {out}",
    ]

    picture = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3))
    keras.utils.save_img(picture, noise, scale=False)
    assert command("predict", out, picture, "--top", 1, "--json") == 0
    ((name, score),) = json.loads(capsys.readouterr().out)["classes"].items()
    scores = model.predict(load_picture(picture, 224)[None], verbose=0)["main"][0]
    assert name.endswith(")")
    assert score == pytest.approx(scores.max(), rel=1e-4)
    assert command("convert", "torchvision", tmp_path / "googlenet.pth", out) == 1
    assert "already exists; pass --overwrite" in capsys.readouterr().err


def test_convert_reports_an_error_in_one_line_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "noise.caffemodel").write_bytes(b"\xff" * 100)
    out = tmp_path / "out.keras"
    wrong = {
        ("caffe", tmp_path / "noise.caffemodel", out): "can't be read as a .caffemodel",
        ("caffe", tmp_path / "nowhere", out): "does not exist",
        ("slim", tmp_path / "nowhere", out): "does not exist (nor",
        ("torchvision", tmp_path / "nowhere", out): "does not exist",
        ("caffe", "x", tmp_path / "out.h5"): "must end in .keras",
        ("caffe", "x", out, "--drop-background"): "is for slim files, not caffe",
        ("slim", "x", out, "--no-heads"): "is for torchvision and caffe files, not",
        ("caffe", "x", out, "--averages"): "is for torchvision and slim files, not",
        ("caffe", "x", out, *["--classifier", "a"] * 2): "one layer for each output",
    }
    for words, message in wrong.items():
        assert command("convert", *words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["noise.caffemodel"]


@pytest.mark.slow
def test_convert_takes_what_fine_tuning_left(tmp_path, capsys):
    """Other classes than the heads, a new classifier, wrappers and an optimizer."""
    torch = pytest.importorskip("torch")
    model = ki.GoogLeNet(
        classes=5, auxiliary=(), architecture=ki.GOOGLENET_TORCHVISION, batch_norm=True
    )
    state = torchvision_state(model)
    state["fc.1.weight"], state["fc.1.bias"] = (
        state.pop("fc.weight"),
        state.pop("fc.bias"),
    )
    state |= {"aux1.fc2.weight": torch.ones(9, 1024), "aux1.fc2.bias": torch.ones(9)}
    state = {f"module.{name}": value for name, value in state.items()}
    state["module.criterion.weight"] = torch.ones(5)
    path, out = tmp_path / "tuned.pth", tmp_path / "tuned.keras"
    torch.save({"model": state, "optimizer": {}, "epoch": 3}, path)

    start = ["convert", "torchvision", path, out]
    assert command(*start) == 1
    assert "Leave the heads out" in capsys.readouterr().err
    assert command(*start, "--no-heads") == 1
    assert "unexpected tensors: 'criterion.weight'" in capsys.readouterr().err
    assert not out.exists()
    assert (
        command(*start, "--no-heads", "--ignore", "criterion", "--classifier", "fc.1")
        == 0
    )
    assert "5 classes" in capsys.readouterr().out
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3))
    again = keras.saving.load_model(out)
    np.testing.assert_array_equal(
        again.predict(pixels, verbose=0)["main"],
        model.predict(pixels, verbose=0)["main"],
    )


@pytest.mark.slow
def test_train_fine_tunes_in_two_phases(tmp_path, capsys):
    model = tiny_googlenet(
        input_shape=(32, 32, 3),
        classes=5,
        architecture=ki.GOOGLENET_SMALL,
        batch_norm=True,
    )
    start = tmp_path / "start.keras"
    model.save(start)
    common = ["digits", "--runs", tmp_path, "--epochs", 1, "--batch-size", 128]
    frozen = [*common, "--weights", start, "--freeze", "inception_5b"]
    assert command("train", *frozen, "--name", "head") == 0
    assert "kept the trunk; new main, aux_4a, aux_4d" in capsys.readouterr().out
    head = keras.saving.load_model(tmp_path / "head/model.keras")
    layer = "inception_5b_1x1"
    np.testing.assert_array_equal(
        head.get_layer(layer).kernel, model.get_layer(layer).kernel
    )

    decayed = ["--weights", tmp_path / "head/model.keras", "--layer-decay", 0.8]
    decayed += ["--head-dropout", 0.5]  # the same weights, batch normalization's too
    assert command("train", *common, *decayed, "--name", "all") == 0
    assert "kept the trunk, main, aux_4a, aux_4d" in capsys.readouterr().out
    tuned = keras.saving.load_model(tmp_path / "all/model.keras")
    assert not np.array_equal(
        tuned.get_layer(layer).kernel, model.get_layer(layer).kernel
    )
    assert tuned.optimizer.factors[layer] == 0.8
