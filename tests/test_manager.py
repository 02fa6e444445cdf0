"""Which versions are served: TF Serving's policy, without a model."""

import threading

import pytest

from keras_inception.server import Manager
from keras_inception.server.errors import ServingError


@pytest.fixture
def place(tmp_path):
    directory = tmp_path / "flowers"
    for version in ("1", "2", "00000003", "tmp-4", "notes"):
        (directory / version).mkdir(parents=True)
    return directory


def load(path):
    if (path / "broken").exists():
        raise OSError(f"no model in {path.name}\nand more lines")
    return path.name


def states(manager):
    return {int(s["version"]): s["state"] for s in manager.status(manager.name)}


def answering(manager, **which):
    with manager.servable("flowers", **which) as servable:
        return servable


def test_the_highest_number_is_served(place):
    manager = Manager(place, load)
    manager.look()
    assert manager.name == "flowers"
    assert states(manager) == {3: "AVAILABLE"}
    assert answering(manager) == "00000003"
    assert answering(manager, version=3) == "00000003"


def test_a_newcomer_takes_over_and_the_old_one_ends(place):
    manager = Manager(place, load)
    manager.look()
    (place / "10").mkdir()
    manager.look()
    assert states(manager) == {10: "AVAILABLE", 3: "END"}
    assert answering(manager) == "10"
    with pytest.raises(ServingError, match=r"Specific\(flowers, 3\)"):
        answering(manager, version=3)
    (place / "10").rename(place / "withdrawn-10")  # export --rollback
    manager.look()
    assert states(manager) == {10: "END", 3: "AVAILABLE"}


def test_what_is_being_answered_is_answered_by_the_old_version(place):
    manager = Manager(place, load)
    manager.look()
    with manager.servable("flowers") as servable:
        (place / "4").mkdir()
        looking = threading.Thread(target=manager.look)
        looking.start()
        while states(manager).get(4) != "AVAILABLE":
            pass
        assert answering(manager) == "4"  # others already get the new one
        assert servable == "00000003"
        looking.join(0.05)
        assert states(manager)[3] == "UNLOADING"
    looking.join(5)
    assert states(manager) == {4: "AVAILABLE", 3: "END"}


def test_a_version_that_does_not_load_changes_nothing_else(place):
    manager = Manager(place, load)
    manager.look()
    (place / "4").mkdir()
    (place / "4/broken").touch()
    manager.look()
    assert answering(manager) == "00000003"
    failed, served = manager.status("flowers")
    assert failed == {
        "version": "4",
        "state": "END",
        "status": {"error_code": "UNKNOWN", "error_message": "no model in 4"},
    }
    assert served["state"] == "AVAILABLE"
    (place / "4").rename(place / "aside")
    manager.look()
    (place / "aside/broken").unlink()
    (place / "aside").rename(place / "4")
    manager.look()
    assert answering(manager) == "4"


def test_an_empty_directory_leaves_what_is_served(place):
    manager = Manager(place, load)
    manager.look()
    for version in ("1", "2", "00000003"):
        (place / version).rmdir()
    manager.look()
    assert answering(manager) == "00000003"


def test_all_and_chosen_versions(place):
    manager = Manager(place, load, wanted="all")
    manager.look()
    assert states(manager) == dict.fromkeys((3, 2, 1), "AVAILABLE")
    assert answering(manager) == "00000003"
    assert answering(manager, version=1) == "1"
    manager = Manager(place, load, wanted=[1, 2])
    manager.look()
    assert states(manager) == dict.fromkeys((2, 1), "AVAILABLE")


def test_labels_name_versions_and_keep_them_loaded(place):
    manager = Manager(place, load, labels={"stable": 1, "gone": 9})
    manager.look()
    assert states(manager) == dict.fromkeys((3, 1), "AVAILABLE")
    assert answering(manager, label="stable") == "1"
    assert manager.status("flowers", label="stable")[0]["version"] == "1"
    with pytest.raises(ServingError, match="Unrecognized servable version label: x"):
        answering(manager, label="x")
    with pytest.raises(ServingError, match=r"Specific\(flowers, 9\)"):
        answering(manager, label="gone")


def test_unknown_names_and_versions_are_not_found(place):
    manager = Manager(place, load, name="roses")
    manager.look()
    for ask, message in (
        (lambda: answering(manager), r"request: Latest\(flowers\)"),
        (lambda: answering(manager, version=3), r"request: Specific\(flowers, 3\)"),
        (lambda: manager.status("flowers"), "any versions of model flowers"),
        (lambda: manager.status("roses", 7), "find version 7 of model roses"),
    ):
        with pytest.raises(ServingError, match=message) as caught:
            ask()
        assert caught.value.status == 404
