"""The list of pictures that a run learned from, beside what is read later."""

import shutil
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import tiny_googlenet
from PIL import Image

from keras_inception.data import Manifest, find, list_files
from keras_inception_cli import train_session
from tests.test_layouts import classes, counts, picture


@pytest.fixture
def folder(tmp_path):
    """A folder of three classes; one picture is damaged, one file is not a picture."""
    classes(tmp_path / "pets", 5)
    (tmp_path / "pets/ant/bad.png").write_bytes(b"damaged")
    (tmp_path / "pets/bee/notes.txt").write_text("bees")
    return tmp_path / "pets"


@pytest.fixture
def manifest(folder, tmp_path):
    """The list of these pictures, as a run writes and reads it."""
    Manifest.of(find(folder, max_bad_fraction=0.1)).write(tmp_path / "pictures.csv")
    return Manifest.read(tmp_path / "pictures.csv")


def again(folder, manifest, **arguments):
    """What `find` makes of a folder that has a list, and the lines that it logs."""
    lines = []
    arguments = {"manifest": manifest, "log": lines.append} | arguments
    return find(folder, max_bad_fraction=0.1, **arguments), lines


def paths(source):
    return {name: split.paths for name, split in source.by_split.items()}


def test_nothing_changed(folder, manifest):
    first = find(folder, max_bad_fraction=0.1)
    source, lines = again(folder, manifest)
    assert paths(source) == paths(first)
    assert not lines
    assert manifest.class_names == ["ant", "bee", "cat"]


def test_new_pictures_are_left_out_and_the_splits_stay(folder, manifest):
    first = find(folder, max_bad_fraction=0.1)
    for name in ("ant", "bee", "cat"):  # one of them first, which would turn the order
        picture(folder / name / ".png".replace(".", "a."))
        picture(folder / name / "new.jpg")
    assert paths(find(folder, max_bad_fraction=0.1)) != paths(first)
    source, (line,) = again(folder, manifest)
    assert paths(source) == paths(first)
    assert "6 new, and left out: 'ant/a.png', 'ant/new.jpg'" in line


def test_missing_and_changed_pictures_are_reported(folder, manifest):
    first = find(folder, max_bad_fraction=0.1)
    gone, changed = first.train.paths[0], first.train.paths[-1]
    (folder / gone).unlink()
    Image.new("RGB", (64, 64)).save(changed)
    source, (line,) = again(folder, manifest)
    assert source.train.paths == first.train.paths[1:]
    assert source.validation.paths == first.validation.paths
    assert "1 missing: 'ant/" in line
    assert "1 of another size: 'cat/" in line


def test_other_classes_are_refused(folder, manifest):
    (folder / "bee").rename(folder / "wasp")
    with pytest.raises(ValueError, match=r"missing now: 'bee'; new: 'wasp'"):
        again(folder, manifest)
    (folder / "wasp").rename(folder / "bee")
    classes(folder, names=("dog",))
    with pytest.raises(ValueError, match=r"not those that the run learned: new: 'dog'"):
        again(folder, manifest)


def test_a_folder_may_move(folder, manifest, tmp_path):
    first = paths(find(folder, max_bad_fraction=0.1))
    moved = folder.rename(tmp_path / "elsewhere")
    source, lines = again(moved, manifest)
    assert not lines
    assert paths(source) == {
        name: [path.replace(str(folder), str(moved)) for path in split]
        for name, split in first.items()
    }


def test_a_folder_may_move_to_a_system_that_writes_names_in_another_way(tmp_path):
    classes(tmp_path / "a", 5)
    names = ("ez", "é0", "é1", "f", "è")  # é comes after f, but e and its accent before
    for path in [*(tmp_path / "a").rglob("*.png")]:
        path.rename(path.with_name(f"{names[int(path.stem)]}.png"))
    first = find(tmp_path / "a")
    manifest = Manifest.of(first)
    for path in [*(tmp_path / "a").rglob("*.png")]:
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    source, lines = again(tmp_path / "a", manifest)
    assert not lines
    assert paths(source) == {
        name: [unicodedata.normalize("NFD", path) for path in split]
        for name, split in paths(first).items()
    }


def test_other_labels_in_a_table_are_reported_or_refused(tmp_path):
    table = tmp_path / "labels.csv"
    labels = {f"{name}/{n}.png": name for name in ("ant", "bee") for n in range(4)}

    def write(labels):
        rows = "".join(f"{path},{label}\n" for path, label in labels.items())
        table.write_text(f"path,label\n{rows}")
        return str(table)

    classes(tmp_path, 4)
    manifest = Manifest.of(find(write(labels)))
    source, (line,) = again(write(labels | {"ant/0.png": "bee"}), manifest)
    assert "1 with another label: 'ant/0.png'" in line
    assert counts(source) == {"train": 6, "validation": 2}
    shifted = dict(zip(labels, [*labels.values()][::-1], strict=True))
    with pytest.raises(ValueError, match=r"most .* have other labels"):
        again(write(shifted), manifest)


def test_classes_are_compared_where_there_is_no_list(monkeypatch):
    model = tiny_googlenet(classes=10)
    run = SimpleNamespace(
        check_resumable=lambda: None,
        epochs_done=lambda: 1,
        checkpoint=lambda: (model, {"epochs": 1}),
    )
    monkeypatch.setattr(train_session.RunDirectory, "open", lambda path: run)
    options = SimpleNamespace(resume=True, runs=Path("runs"), name="x", data=None)
    devices = SimpleNamespace(check_agreement=lambda *_: None)
    source = find("digits")
    model.class_names = source.class_names[::-1]
    with pytest.raises(ValueError, match=r"classes .'9'.* differ from the data's .'0'"):
        train_session.prepare(options, None, source, devices)


def test_another_folder_is_refused(folder, manifest, tmp_path):
    shutil.rmtree(folder)
    classes(folder, 5)
    for path in folder.rglob("*.png"):
        Image.new("RGB", (99, 98)).save(path)
    assert not manifest.matches(list_files(folder))
    with pytest.raises(ValueError, match="does not hold the pictures that the run"):
        again(folder, manifest)


def test_dropped_copies_are_not_new(tmp_path):
    classes(tmp_path / "train", 5)
    classes(tmp_path / "test", 1)
    shutil.copy(tmp_path / "test/ant/0.png", tmp_path / "train/ant/copy.png")
    source = find(tmp_path, drop_duplicates=True)
    again_, lines = again(tmp_path, Manifest.of(source), drop_duplicates=True)
    assert not lines
    assert paths(again_) == paths(source)
    assert counts(source)["test"] == 3


def test_records_keep_the_splits_too(folder, manifest, tmp_path):
    first = find(folder, max_bad_fraction=0.1)
    picture(folder / "ant/a.png")
    arguments = {"cache": True, "data_dir": tmp_path / "records"}
    source, (changed, writing) = again(folder, manifest, **arguments)
    assert "1 new" in changed
    assert writing.startswith("writing 15 pictures")
    assert paths(source) == paths(first)


def test_digits_have_no_list():
    assert Manifest.of(find("digits")) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n",
        "file,label,split,bytes\nx,ant,train\n",
        "file,label,split,bytes\nx,ant,train,many\n",
    ],
)
def test_a_damaged_list_is_named(tmp_path, text):
    path = tmp_path / "pictures.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"pictures\.csv, line [12] is damaged"):
        Manifest.read(path)
