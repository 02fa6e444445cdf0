"""Which versions are served: TF Serving's policy, without models."""

import threading
from typing import ClassVar

import pytest

from keras_inception.server import Manager, ModelConfig, Models
from keras_inception.server.limits import ServingError
from keras_inception.server.manager import ModelSpec
from keras_inception.server.version_policy import versions_in


@pytest.fixture
def directory(tmp_path):
    directory = tmp_path / "flowers"
    for version in ("1", "2", "00000003", "tmp-4", "notes"):
        (directory / version).mkdir(parents=True)
    return directory


class Loaded(str):
    """Stands for a servable; its text is its directory's name."""

    open: ClassVar[set[str]] = set()

    def __init__(self, name):
        self.open.add(name)

    def close(self):
        self.open.remove(self)


def load(path, runtime=None):
    if (path / "broken").exists():
        raise OSError(f"no model in {path.name}\nand more lines")
    return Loaded(path.name)


def managed(directory, **config):
    manager = Manager(ModelConfig("flowers", directory, **config), load)
    manager.update()
    return manager


def states(manager):
    return {
        int(s["version"]): s["state"] for s in manager.status(ModelSpec(manager.name))
    }


def answering(manager, **which):
    with manager.servable(ModelSpec("flowers", **which)) as (_, servable):
        return servable


def test_the_highest_number_is_served(directory):
    manager = managed(directory)
    assert states(manager) == {3: "AVAILABLE"}
    assert answering(manager) == "00000003"
    assert answering(manager, version=3) == "00000003"


def test_a_new_version_takes_over_and_the_old_one_ends(directory):
    manager = managed(directory)
    (directory / "10").mkdir()
    manager.update()
    assert states(manager) == {10: "AVAILABLE", 3: "END"}
    assert answering(manager) == "10"
    with pytest.raises(ServingError, match=r"Specific\(flowers, 3\)"):
        answering(manager, version=3)
    (directory / "10").rename(directory / "withdrawn-10")  # export --rollback
    manager.update()
    assert states(manager) == {10: "END", 3: "AVAILABLE"}


def test_the_old_version_finishes_its_requests(directory):
    manager = managed(directory)
    with manager.servable(ModelSpec("flowers")) as (number, servable):
        assert number == 3
        (directory / "4").mkdir()
        updating = threading.Thread(target=manager.update)
        updating.start()
        while states(manager).get(4) != "AVAILABLE":
            pass
        assert answering(manager) == "4"  # others already get the new one
        assert servable == "00000003"
        updating.join(0.05)
        assert states(manager)[3] == "UNLOADING"
    updating.join(5)
    assert states(manager) == {4: "AVAILABLE", 3: "END"}


def test_a_version_that_does_not_load_changes_nothing_else(directory):
    manager = managed(directory)
    (directory / "4").mkdir()
    (directory / "4/broken").touch()
    manager.update()
    assert answering(manager) == "00000003"
    failed, served = manager.status(ModelSpec("flowers"))
    assert failed == {
        "version": "4",
        "state": "END",
        "status": {"error_code": "NOT_FOUND", "error_message": "no model in 4"},
    }
    assert served["state"] == "AVAILABLE"
    (directory / "4").rename(directory / "aside")
    manager.update()
    (directory / "aside/broken").unlink()
    (directory / "aside").rename(directory / "4")
    manager.update()
    assert answering(manager) == "4"


def test_an_empty_directory_leaves_what_is_served(directory):
    manager = managed(directory)
    for version in ("1", "2", "00000003"):
        (directory / version).rmdir()
    manager.update()
    assert answering(manager) == "00000003"


def test_all_and_chosen_versions(directory):
    manager = managed(directory, every=True)
    assert states(manager) == dict.fromkeys((3, 2, 1), "AVAILABLE")
    assert answering(manager) == "00000003"
    assert answering(manager, version=1) == "1"
    manager = managed(directory, latest=0, numbers=(1, 2, 9))
    assert states(manager) == dict.fromkeys((2, 1), "AVAILABLE")
    assert states(managed(directory, latest=2)) == dict.fromkeys((3, 2), "AVAILABLE")


def test_labels_go_to_versions_that_are_served(directory):
    labels = {"stable": 1, "canary-2 %": 3, "gone": 9}
    manager = managed(directory, numbers=(1,), labels=labels)
    assert states(manager) == dict.fromkeys((3, 1), "AVAILABLE")
    assert answering(manager, label="stable") == "1"
    assert answering(manager, label="canary-2 %") == "00000003"
    for label in ("gone", "x"):
        message = f"Unrecognized servable version label: {label}"
        with pytest.raises(ServingError, match=message):
            answering(manager, label=label)
    assert manager.unassigned_labels() == {"gone": 9}
    # a label is passed over in a request for the status
    assert len(manager.status(ModelSpec("flowers", label="x"))) == 2
    # it stays where it is until the version that it is to name is served
    manager.config = ModelConfig("flowers", directory, every=True, labels={"stable": 9})
    manager.update()
    assert answering(manager, label="stable") == "1"
    (directory / "9").mkdir()
    manager.update()
    assert answering(manager, label="stable") == "9"


def test_a_version_that_ended_is_closed(directory):
    Loaded.open.clear()
    manager = managed(directory)
    (directory / "10").mkdir()
    manager.update()
    assert Loaded.open == {"10"}


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["-1", "5"], {-1: "-1", 5: "5"}),
        (["7", "007"], {7: "7"}),
        ([str(2**63 - 1), str(2**63), "9" * 30], {2**63 - 1: str(2**63 - 1)}),
        (["1.5", "1e3", "0x10", "v1", "٣", "1 ", ".5", ""], {}),
        (["+4"], {4: "+4"}),
    ],
)
def test_directories_that_are_versions(tmp_path, caplog, names, numbers):
    for name in filter(None, names):
        (tmp_path / name).mkdir()
    (tmp_path / "12").touch()  # a file
    for _ in range(2):
        found = versions_in(tmp_path)
        assert {number: path.name for number, path in found.items()} == numbers
    assert caplog.text.count("007 is ignored; version 7 is beside") == ("007" in names)


def test_models_come_and_go(directory, tmp_path):
    (tmp_path / "roses/5").mkdir(parents=True)
    flowers = ModelConfig("flowers", directory)
    roses = ModelConfig("roses", tmp_path / "roses", runtime="onnx")
    models = Models([flowers], load)
    models.update()
    models.configure([flowers, roses, ModelConfig("empty", tmp_path / "later")])
    models.update()
    assert models.available() == {"flowers": [3], "roses": [5], "empty": []}
    assert not models.ready()
    (tmp_path / "later/1").mkdir(parents=True)
    models.update()
    assert models.ready()
    with pytest.raises(ValueError, match="For model roses it was onnx"):
        models.configure([ModelConfig("roses", tmp_path / "roses")])
    models.configure([roses])
    models.update()
    assert models.available() == {"roses": [5]}
    assert models.status(ModelSpec("flowers"))[0]["state"] == "END"
    with pytest.raises(ServingError, match=r"request: Latest\(flowers\)"):
        models.servable(ModelSpec("flowers")).__enter__()


def test_unknown_names_and_versions_are_not_found(directory):
    models = Models([ModelConfig("roses", directory)], load)
    models.update()
    for ask, message, status in (
        (
            lambda: answering(models),
            r"request: Latest\(flowers\)",
            404,
        ),
        (
            lambda: answering(models, version=3),
            r"request: Specific\(flowers, 3\)",
            404,
        ),
        (lambda: answering(models, label="x"), "version label: x", 400),
        (
            lambda: models.status(ModelSpec("flowers")),
            "any versions of model flowers",
            404,
        ),
        (
            lambda: models.status(ModelSpec("roses", 7)),
            "find version 7 of model roses",
            404,
        ),
    ):
        with pytest.raises(ServingError, match=message) as caught:
            ask()
        assert caught.value.status == status
