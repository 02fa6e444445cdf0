"""Which versions are served: TF Serving's policy, without models."""

import threading

import pytest

from keras_inception.server import Manager
from keras_inception.server.limits import ServingError
from keras_inception.server.manager import ModelSpec


@pytest.fixture
def directory(tmp_path):
    directory = tmp_path / "flowers"
    for version in ("1", "2", "00000003", "tmp-4", "notes"):
        (directory / version).mkdir(parents=True)
    return directory


def load(path):
    if (path / "broken").exists():
        raise OSError(f"no model in {path.name}\nand more lines")
    return path.name


def states(manager):
    return {
        int(s["version"]): s["state"] for s in manager.status(ModelSpec(manager.name))
    }


def answering(manager, **which):
    with manager.servable(ModelSpec("flowers", **which)) as (_, servable):
        return servable


def test_the_highest_number_is_served(directory):
    manager = Manager(directory, load)
    manager.update()
    assert manager.name == "flowers"
    assert states(manager) == {3: "AVAILABLE"}
    assert answering(manager) == "00000003"
    assert answering(manager, version=3) == "00000003"


def test_a_new_version_takes_over_and_the_old_one_ends(directory):
    manager = Manager(directory, load)
    manager.update()
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
    manager = Manager(directory, load)
    manager.update()
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
    manager = Manager(directory, load)
    manager.update()
    (directory / "4").mkdir()
    (directory / "4/broken").touch()
    manager.update()
    assert answering(manager) == "00000003"
    failed, served = manager.status(ModelSpec("flowers"))
    assert failed == {
        "version": "4",
        "state": "END",
        "status": {"error_code": "UNKNOWN", "error_message": "no model in 4"},
    }
    assert served["state"] == "AVAILABLE"
    (directory / "4").rename(directory / "aside")
    manager.update()
    (directory / "aside/broken").unlink()
    (directory / "aside").rename(directory / "4")
    manager.update()
    assert answering(manager) == "4"


def test_an_empty_directory_leaves_what_is_served(directory):
    manager = Manager(directory, load)
    manager.update()
    for version in ("1", "2", "00000003"):
        (directory / version).rmdir()
    manager.update()
    assert answering(manager) == "00000003"


def test_all_and_chosen_versions(directory):
    manager = Manager(directory, load, wanted="all")
    manager.update()
    assert states(manager) == dict.fromkeys((3, 2, 1), "AVAILABLE")
    assert answering(manager) == "00000003"
    assert answering(manager, version=1) == "1"
    manager = Manager(directory, load, wanted=[1, 2])
    manager.update()
    assert states(manager) == dict.fromkeys((2, 1), "AVAILABLE")


def test_labels_name_versions_and_keep_them_loaded(directory):
    manager = Manager(directory, load, labels={"stable": 1, "gone": 9})
    manager.update()
    assert states(manager) == dict.fromkeys((3, 1), "AVAILABLE")
    assert answering(manager, label="stable") == "1"
    assert manager.status(ModelSpec("flowers", label="stable"))[0]["version"] == "1"
    with pytest.raises(ServingError, match="Unrecognized servable version label: x"):
        answering(manager, label="x")
    with pytest.raises(ServingError, match=r"Specific\(flowers, 9\)"):
        answering(manager, label="gone")


def test_unknown_names_and_versions_are_not_found(directory):
    manager = Manager(directory, load, name="roses")
    manager.update()
    for ask, message in (
        (lambda: answering(manager), r"request: Latest\(flowers\)"),
        (lambda: answering(manager, version=3), r"request: Specific\(flowers, 3\)"),
        (lambda: manager.status(ModelSpec("flowers")), "any versions of model flowers"),
        (
            lambda: manager.status(ModelSpec("roses", 7)),
            "find version 7 of model roses",
        ),
    ):
        with pytest.raises(ServingError, match=message) as caught:
            ask()
        assert caught.value.status == 404
