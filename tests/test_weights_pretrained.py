"""`GoogLeNet(weights=...)`: starting from a trained network."""

import functools
import hashlib
import http.server
import threading

import keras
import numpy as np
import pytest
from comparing import torchvision_state
from conftest import CLASSES, SIDE, short_googlenet

import keras_inception as ki
from keras_inception.weights import pretrained


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "trained.keras"
    model = short_googlenet()
    model.class_names = ["a", "b", "c"]
    model.save(path)
    return path, model


@pytest.fixture
def log(caplog):
    """Captures the library's log at level INFO."""
    caplog.set_level("INFO", "keras_inception")
    return caplog


def test_the_same_classes_keep_everything(trained, pictures, log):
    path, model = trained
    again = ki.GoogLeNet((SIDE, SIDE, 3), CLASSES, weights=path)
    for name, values in model.predict(pictures[0], verbose=0).items():
        np.testing.assert_array_equal(
            again.predict(pictures[0], verbose=0)[name], values
        )
    assert again.class_names == ["a", "b", "c"]
    assert log.messages == [
        "weights of trained.keras: kept the trunk, main, aux_4a, aux_4d"
    ]


def test_new_classes_keep_the_trunk_and_say_so(trained, log):
    path, model = trained
    new = ki.GoogLeNet(
        (96, 96, 3), 5, auxiliary=("inception_5b",), weights=path, name="flowers"
    )
    assert {name: output.shape for name, output in new.output.items()} == {
        "main": (None, 5),
        "aux_5b": (None, 5),
    }
    layer = "inception_5b_3x3"
    np.testing.assert_array_equal(
        new.get_layer(layer).kernel, model.get_layer(layer).kernel
    )
    assert new.class_names is None
    assert log.messages == [
        "weights of trained.keras: kept the trunk; new main, aux_5b"
    ]


def test_heads_whose_names_begin_alike_are_kept_apart(trained, tmp_path, log):
    """The layers `aux_2_...` belong to the head `aux_2`, not to `aux`."""
    shape = (SIDE, SIDE, 3)
    early = ki.AuxiliaryHead("inception_4a", name="aux", units=8)
    late = ki.AuxiliaryHead("inception_4d", name="aux_2", units=8)
    model = short_googlenet(auxiliary=(early, late))
    model.save(tmp_path / "heads.keras")
    wider = ki.AuxiliaryHead("inception_4d", name="aux_2", units=9)
    new = ki.GoogLeNet(
        shape, CLASSES, auxiliary=(early, wider), weights=tmp_path / "heads.keras"
    )
    np.testing.assert_array_equal(
        new.get_layer("aux_fc").kernel, model.get_layer("aux_fc").kernel
    )
    assert log.messages[-1] == (
        "weights of heads.keras: kept the trunk, main, aux; new aux_2"
    )
    # the early head is not in the file, the late one is
    model = short_googlenet(auxiliary=(late,))
    model.save(tmp_path / "late.keras")
    new = ki.GoogLeNet(
        shape, CLASSES, auxiliary=(early, late), weights=tmp_path / "late.keras"
    )
    np.testing.assert_array_equal(
        new.get_layer("aux_2_fc").kernel, model.get_layer("aux_2_fc").kernel
    )
    assert log.messages[-1] == (
        "weights of late.keras: kept the trunk, main, aux_2; new aux"
    )


def test_the_new_model_trains_saves_and_loads(trained, pictures, tmp_path):
    model = ki.GoogLeNet((SIDE, SIDE, 3), CLASSES, weights=trained[0])
    model.compile("sgd")
    model.fit(*pictures, verbose=0)
    model.save(tmp_path / "tuned.keras")
    again = keras.saving.load_model(tmp_path / "tuned.keras")
    np.testing.assert_array_equal(
        again.predict(pictures[0], verbose=0)["main"],
        model.predict(pictures[0], verbose=0)["main"],
    )


def test_layers_frozen_in_the_file_are_trainable(trained, tmp_path):
    model = ki.GoogLeNet((SIDE, SIDE, 3), CLASSES, weights=trained[0])
    ki.optimizers.freeze_through(model, "inception_5b")
    model.save(tmp_path / "first_phase.keras")
    second = ki.GoogLeNet(
        (SIDE, SIDE, 3), CLASSES, weights=tmp_path / "first_phase.keras"
    )
    assert len(second.trainable_weights) == len(trained[1].trainable_weights)


def test_a_file_of_another_network_is_rejected(trained, tmp_path):
    shape = (SIDE, SIDE, 3)
    with pytest.raises(ValueError, match="another network than the arguments describe"):
        ki.GoogLeNet(shape, CLASSES, width=0.25, weights=trained[0])
    with pytest.raises(ValueError, match="leave architecture, width and batch_norm"):
        ki.GoogLeNet(
            shape, CLASSES, architecture=ki.GOOGLENET_SMALL, weights=trained[0]
        )
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="is not a GoogLeNet in a"):
        ki.GoogLeNet(shape, weights=tmp_path / "other.keras")
    with pytest.raises(FileNotFoundError, match="weights file nowhere"):
        ki.GoogLeNet(shape, weights="nowhere.keras")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file in the published form, on a local server that stands in for PyTorch's."""
    torch = pytest.importorskip("torch")
    model = ki.GoogLeNet(
        auxiliary=(), architecture=ki.GOOGLENET_TORCHVISION, batch_norm=True
    )
    site = tmp_path / "site"
    site.mkdir()
    file = site / "googlenet-1378be20.pth"
    torch.save(torchvision_state(model), file)
    handler = functools.partial(QuietHandler, directory=site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{file.name}"
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "IMAGENET_URL", url)
    monkeypatch.setattr(pretrained, "IMAGENET_SHA256", checksum)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    yield file, model
    server.shutdown()
    server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_imagenet_is_downloaded_checked_converted_and_kept(published, tmp_path):
    file, theirs = published
    model = ki.GoogLeNet(weights="imagenet")
    np.testing.assert_array_equal(
        model.get_layer("inception_3a_1x1").kernel,
        theirs.get_layer("inception_3a_1x1").kernel,
    )
    assert model.class_names[0] == "tench (n01440764)"
    assert model.heads == ["aux_4a", "aux_4d"]  # new: the file's heads are untrained
    converted = tmp_path / "home/models/googlenet-1378be20.keras"
    written = converted.stat().st_mtime_ns
    file.unlink()
    (tmp_path / "home/models" / file.name).unlink()
    ki.GoogLeNet(weights="imagenet", auxiliary=())
    assert converted.stat().st_mtime_ns == written


def test_another_file_than_the_published_one_is_rejected(published, monkeypatch):
    monkeypatch.setattr(pretrained, "IMAGENET_SHA256", "12345678")
    with pytest.raises(ValueError, match="is not the published file"):
        ki.GoogLeNet(weights="imagenet")


def test_without_a_network_the_error_says_what_to_put_where(monkeypatch, tmp_path):
    url = "http://127.0.0.1:9/googlenet-1378be20.pth"  # a closed port
    monkeypatch.setattr(pretrained, "IMAGENET_URL", url)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(OSError, match=f"fetch {url} and put it at {tmp_path}"):
        ki.GoogLeNet(weights="imagenet")
    assert not list(tmp_path.rglob("*.keras"))


def test_outputs_for_other_classes_are_new(trained, tmp_path, caplog):
    shape = (SIDE, SIDE, 3)
    source = keras.saving.load_model(trained[0])
    source.class_names = ["ant", "bee", "cat"]
    source.save(tmp_path / "named.keras")
    for names, kept in (
        (None, True),
        (["ant", "bee", "cat"], True),
        (["bee", "ant", "cat"], False),
        (["dog", "elk", "fox"], False),
    ):
        caplog.clear()
        with caplog.at_level("INFO", "keras_inception"):
            model = ki.GoogLeNet(
                shape, CLASSES, weights=tmp_path / "named.keras", class_names=names
            )
        assert model.class_names == (names or source.class_names)
        for name in ("main_classifier", "inception_5b_1x1"):
            theirs, ours = source.get_layer(name), model.get_layer(name)
            same = np.array_equal(theirs.kernel, ours.kernel)
            assert same == (kept or name != "main_classifier")
        ending = "kept the trunk, main" if kept else "kept the trunk; new main"
        assert ending in caplog.text
    with pytest.raises(ValueError, match="each of the 3 classes"):
        ki.GoogLeNet(shape, CLASSES, class_names=["ant", "bee"])
