"""Versions appear whole and keep their numbers, even if exports are killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_googlenet
from PIL import Image

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


def in_a_process(code, *words):
    """Starts a process that has `versioning` and `files` without Keras, at once."""
    root = Path(__file__).parents[1] / "keras_inception"
    packages = {"keras_inception": root, "keras_inception.export": root / "export"}
    start = (
        "import sys, types\n"
        f"for name, path in { ({n: str(p) for n, p in packages.items()})!r}.items():\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "    sys.modules[name].__path__ = [path]\n"
        "from keras_inception.export import versioning\n"
        "from pathlib import Path\nimport time\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
    )


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
    contents = {path.read_text() for path in tmp_path.glob("*/saved_model.pb")}
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
    """A lock says who lives: a container's process numbers mean nothing here."""
    code = (
        "with versioning.being_written(sys.argv[1]) as partial:\n"
        "    partial.mkdir(); (partial / 'half').write_text('x')\n"
        "    print(partial.name, flush=True); time.sleep(60)\n"
    )
    dead, living = in_a_process(code, tmp_path), in_a_process(code, tmp_path)
    names_of = [child.stdout.readline().strip() for child in (dead, living)]
    dead.kill()
    dead.communicate()
    huge = tmp_path / f".partial-host-{10**30}-00000000"
    old = tmp_path / ".partial-host-1-00000000"  # as earlier versions left it
    for partial in (huge, old):
        partial.mkdir()
    os.utime(old, (0, 0))
    try:
        write(tmp_path)
        left = {names_of[1], f"{names_of[1]}.lock", huge.name, "1"}
        assert names(tmp_path) == left
    finally:
        living.kill()
        living.communicate()


@pytest.mark.slow
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


def test_a_number_is_never_given_twice(tmp_path):
    for _ in range(3):
        write(tmp_path)
    shutil.rmtree(tmp_path / "3")  # by hand
    assert write(tmp_path).name == "4"
    assert ki.export.rollback(tmp_path) == (4, 2)
    shutil.rmtree(tmp_path / "withdrawn-4")
    assert ki.export.prune(tmp_path, 1) == [1]
    for taken in (1, 3, 4):
        with pytest.raises(FileExistsError, match="a number is used only once"):
            versioning.check_version(tmp_path, taken)
    assert write(tmp_path).name == "5"
    (tmp_path / "007").mkdir()
    with pytest.raises(FileExistsError, match="version 7"):
        write(tmp_path, 7)
    assert write(tmp_path).name == "8"


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30, 0, -1])
def test_a_version_is_an_int64(number, tmp_path):
    (tmp_path / str(2**64)).mkdir()  # TF Serving passes it over
    with pytest.raises(ValueError, match=r"from 1 to 9223372036854775807\. Received"):
        versioning.check_version(tmp_path, number)
    assert versioning.versions(tmp_path) == []
    assert write(tmp_path).name == "1"
    write(tmp_path, 2**63 - 1)
    with pytest.raises(ValueError, match="Received: 9223372036854775808"):
        write(tmp_path)


def test_a_rollback_finds_a_free_name_and_all_directories_of_a_version(tmp_path):
    for name in ("1", "2", "007", "7", "withdrawn-7"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    assert versioning.path_of(tmp_path, 7).name == "7"
    assert ki.export.rollback(tmp_path) == (7, 2)
    left = {name: (tmp_path / name / "name").read_text() for name in names(tmp_path)}
    assert left == {
        "1": "1",
        "2": "2",
        "withdrawn-7": "withdrawn-7",
        "withdrawn-7-2": "7",
        "withdrawn-7-3": "007",
    }


@pytest.mark.parametrize("name", ["a [1] *?", "q'\"\\ ü日", "é" * 127, "\udcff"])
def test_a_directory_may_have_any_name(name, tmp_path):
    """TensorFlow takes some for patterns, and others not at all."""
    inputs = keras.Input((8, 8, 3))
    scores = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, scores)
    Image.fromarray(np.zeros((4, 4, 3), "uint8")).save(tmp_path / "x.png")
    path = ki.export.export_saved_model(model, tmp_path / name / "m")
    assert path == tmp_path / name / "m/1"
    assert len(ki.export.load_classifier(path)(tmp_path / "x.png")) == 3
    if name == "\udcff":
        with pytest.raises(ValueError, match=r"must be in UTF-8. Received: '.udcff'"):
            versioning.check_version(tmp_path / name, None)
    else:
        assert write(tmp_path / name).name == "1"


def test_a_damaged_record_is_one_line(tmp_path):
    write(tmp_path / "m")
    (tmp_path / ".m.versions.json").write_text('{"given": ["1"]}')
    fault = r'\.m\.versions\.json is damaged.* given\[0\] is "1"; expected a whole'
    with pytest.raises(ValueError, match=fault):
        write(tmp_path / "m")


def test_a_record_that_cant_be_written_stops_no_export(tmp_path, caplog):
    (tmp_path / ".m.versions.json").mkdir()
    assert write(tmp_path / "m").name == "1"
    assert "deleted by hand may be used again" in caplog.text


KILLS = int(os.environ.get("KILLS", 40))


@pytest.mark.slow
def test_killed_exports_give_no_number_twice(tmp_path):
    """Exporters, `--keep` and rollbacks are killed at random, KILLS times."""
    code = (
        "import os, random\n"
        "directory, log = Path(sys.argv[1]), sys.argv[2]\n"
        "file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "while True:\n"
        "    try:\n"
        "        with versioning.being_written(directory) as partial:\n"
        "            partial.mkdir()\n"
        "            content = str(random.getrandbits(64))\n"
        "            for index in range(20):\n"
        "                (partial / str(index)).write_text(content)\n"
        "            path = versioning.publish(partial, directory, None)\n"
        "            os.write(file, f'{path.name}\\n'.encode())\n"
        "        if random.random() < 0.2: versioning.prune(directory, 3)\n"
        "        if random.random() < 0.2: versioning.rollback(directory)\n"
        "    except ValueError: pass\n"  # nothing to roll back to
    )
    log, model = tmp_path / "log", tmp_path / "model"
    random = np.random.default_rng(KILLS)
    children, seen, whole = [], {}, 0
    try:
        for _ in range(KILLS):
            while len(children) < 3:
                children.append(in_a_process(code, model, log))
            deadline = time.monotonic() + float(random.uniform(0.2, 0.5))
            while time.monotonic() < deadline:  # a reader, as a server polls
                for version in versioning.versions(model):
                    with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
                        path = versioning.path_of(model, version)
                        contents = {(path / str(i)).read_text() for i in range(20)}
                        assert len(contents) == 1, "an incomplete version"
                        content = contents.pop()
                        assert seen.setdefault(version, content) == content
                        whole += 1
            child = children.pop(int(random.integers(3)))
            child.kill()
            child.communicate()
    finally:
        for child in children:
            child.kill()
            child.communicate()
    given = log.read_text().split()
    assert len(given) > KILLS / 4
    assert len(given) == len(set(given)), "a number was given twice"
    print(f"{KILLS} kills, {len(given)} versions, {whole} whole reads")
    write(model)
    assert not list(model.glob(".partial-*"))
