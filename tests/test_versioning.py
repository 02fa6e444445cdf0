"""Versions appear whole and keep their numbers, even if exports are killed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf
from conftest import tiny_googlenet

import keras_inception as ki
from keras_inception.export import versioning
from keras_inception.export.model_card import checksums


def write(directory, version=None, content="x"):
    with versioning.being_written(directory) as partial:
        partial.mkdir()
        (partial / "saved_model.pb").write_text(content)
        return versioning.publish(partial, directory, version)


def names(directory):
    return {entry.name for entry in directory.iterdir()}


def test_versions_rise_and_are_never_overwritten(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "no-version").mkdir()
    assert write(tmp_path) == tmp_path / "8"
    for taken in (7, 8):
        with pytest.raises(FileExistsError, match="never overwritten"):
            write(tmp_path, taken, "other")
        with pytest.raises(FileExistsError, match="never overwritten"):
            versioning.check_version(tmp_path, taken)
    assert (tmp_path / "8/saved_model.pb").read_text() == "x"
    assert versioning.versions(tmp_path) == [7, 8]
    assert names(tmp_path) == {"7", "8", "no-version"}


def test_a_taken_version_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "7").mkdir()
    with pytest.raises(FileExistsError, match="never overwritten"):
        ki.export.export_saved_model(tiny_googlenet(), tmp_path, version=7)
    assert names(tmp_path) == {"7"}


def test_concurrent_exports_get_different_numbers(tmp_path):
    threads = [
        threading.Thread(target=write, args=(tmp_path, None, str(i))) for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versioning.versions(tmp_path) == list(range(1, 17))
    contents = {(path / "saved_model.pb").read_text() for path in tmp_path.iterdir()}
    assert contents == {str(i) for i in range(16)}


def test_rollback_deletes_nothing_and_reuses_no_number(tmp_path):
    for content in "abc":
        write(tmp_path, content=content)
    assert ki.export.rollback(tmp_path) == (3, 2)
    assert versioning.versions(tmp_path) == [1, 2]
    assert (tmp_path / "withdrawn-3/saved_model.pb").read_text() == "c"
    assert write(tmp_path) == tmp_path / "4"
    assert ki.export.rollback(tmp_path) == (4, 2)
    assert ki.export.rollback(tmp_path) == (2, 1)
    with pytest.raises(ValueError, match="at least two"):
        ki.export.rollback(tmp_path)


def test_old_versions_are_pruned_whole(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "00000003").mkdir()  # TF Serving reads it as 3
    for version in (1, 2, 10):
        write(tmp_path, version)
    assert ki.export.prune(tmp_path, 2) == [1, 2]
    assert names(tmp_path) == {"00000003", "10", "notes"}
    with pytest.raises(ValueError, match="At least 1"):
        ki.export.prune(tmp_path, 0)


def test_leftovers_of_killed_exports_are_removed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    host = os.uname().nodename
    dead = tmp_path / f".partial-{host}-{child.pid}-00000000"
    living = tmp_path / f".partial-{host}-{os.getpid()}-00000000"
    elsewhere = tmp_path / f".partial-not{host}-{child.pid}-00000000"
    for partial in (dead, living, elsewhere):
        partial.mkdir()
    write(tmp_path)
    assert names(tmp_path) == {living.name, elsewhere.name, "1"}


def test_a_killed_export_leaves_whole_versions_or_none(tmp_path):
    """Kills exports with SIGKILL while two of them write as fast as they can."""
    code = (
        "import sys, keras, keras_inception as ki\n"
        "inputs = keras.Input((8, 8, 3))\n"
        "x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))\n"
        "model = keras.Model(inputs, x)\n"
        "while True: ki.export.export_saved_model(model, sys.argv[1])\n"
    )
    words = [sys.executable, "-c", code, tmp_path]
    children = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        deadline = time.monotonic() + 120
        for child, count in zip(children, (2, 3), strict=True):
            while len(versioning.versions(tmp_path)) < count:
                assert time.monotonic() < deadline, "no export in two minutes"
                time.sleep(0.01)
            while not list(tmp_path.glob(f".partial-*-{child.pid}-*/variables/*")):
                time.sleep(0.001)
            child.send_signal(signal.SIGKILL)  # in the middle of writing
            child.wait()
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert list(tmp_path.glob(".partial-*")), "no export was killed while it wrote"
    for version in versioning.versions(tmp_path):
        path = tmp_path / str(version)
        card = (path / "model_card.md").read_text()
        for file, (_, checksum) in checksums(path).items():
            assert f"`{file}`" in card
            assert checksum in card
    loaded = tf.saved_model.load(path)
    assert loaded.signatures["serving_default"](images=tf.zeros((1, 8, 8, 3)))
    write(tmp_path)  # the next export cleans up
    assert not list(tmp_path.glob(".partial-*"))
    shutil.rmtree(tmp_path)


def test_a_number_that_exists_or_was_withdrawn_is_not_reused(tmp_path):
    (tmp_path / "1").write_text("a file in the way")
    (tmp_path / "withdrawn-3").mkdir()
    (tmp_path / "partial").mkdir()
    assert versioning.publish(tmp_path / "partial", tmp_path, None).name == "4"
    with pytest.raises(FileExistsError, match="a number is used only once"):
        versioning.check_version(tmp_path, 3)
