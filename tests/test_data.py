"""Folders and files of every kind that people have, through the real pipeline."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_inception as ki
from keras_inception.data import find, pictures


def save(path, mode="RGB", size=(40, 30), color=None, **arguments):
    """Writes a picture of one color and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    defaults = {"RGB": (200, 100, 50), "L": 100, "RGBA": (200, 100, 50, 128)}
    defaults |= {"CMYK": (0, 100, 200, 30)}
    if mode == "I;16":
        picture = Image.fromarray(np.full(size[::-1], 100 * 256 + 7, "uint16"))
    else:
        color = color or defaults.get(mode, (200, 100, 50))
        picture = Image.new("RGB" if mode == "P" else mode, size, color)
    if mode == "P":
        picture = picture.convert("P")
    picture.save(path, **arguments)
    return path


@pytest.fixture
def folder(tmp_path):
    """Ten red and ten blue pictures, in class folders."""
    for index in range(10):
        save(tmp_path / f"red/{index}.jpg", color=(250, 10, 10))
        save(tmp_path / f"blue/{index}.png", color=(10, 10, 250))
    return tmp_path


def test_digits_need_no_network():
    data = ki.data.load("digits", image_size=32, batch_size=16)
    assert data.class_names == [str(digit) for digit in range(10)]
    assert len(data.source.train) + len(data.source.validation) == 1797
    images, labels = next(iter(data.train))
    assert images.shape == (16, 32, 32, 3)
    assert images.dtype == tf.float32
    assert labels.dtype == tf.int32
    assert 200 < float(tf.reduce_max(images)) <= 255


def test_a_folder_is_split_by_class_and_seed(folder):
    data = ki.data.load(folder, image_size=32, batch_size=4, seed=1)
    assert data.class_names == ["blue", "red"]
    assert np.bincount(data.source.train.labels).tolist() == [8, 8]
    assert np.bincount(data.source.validation.labels).tolist() == [2, 2]
    again = find(folder, seed=1)
    other = find(folder, seed=2)
    first, same, different = (
        set(s.validation.paths) for s in (data.source, again, other)
    )
    assert first == same != different
    for images, labels in data.train:
        red = images[:, 16, 16, 0] > images[:, 16, 16, 2]
        assert (red.numpy() == (labels.numpy() == 1)).all()


def test_training_order_changes_by_epoch_and_repeats_by_seed(folder):
    def orders(seed):
        data = ki.data.load(folder, image_size=8, batch_size=16, seed=seed)
        return [next(iter(data.train))[1].numpy().tolist() for _ in range(3)]

    assert orders(5) == orders(5)
    assert orders(5) != orders(6)
    assert len({tuple(order) for order in orders(5)}) > 1


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_train_and_validation_folders(folder, tmp_path_factory, validation):
    root = tmp_path_factory.mktemp("split")
    (root / "train").symlink_to(folder)
    save(root / validation / "red/a.jpg")
    save(root / validation / "blue/b.jpg")
    source = find(root)
    assert (len(source.train), len(source.validation)) == (20, 2)
    save(root / validation / "green/b.jpg")
    with pytest.raises(ValueError, match="green"):
        find(root)


def test_the_pipeline_reads_every_kind(tmp_path):
    for kind in ("one", "two"):
        for name, mode in (
            ("a.jpg", "CMYK"),
            ("b.png", "RGBA"),
            ("c.tif", "P"),
            ("d.gif", "P"),
        ):
            save(tmp_path / kind / name, mode)
    data = ki.data.load(tmp_path, image_size=16, batch_size=32)
    seen = sum(
        len(labels) for part in (data.train, data.validation) for _, labels in part
    )
    assert seen == 8


@pytest.mark.parametrize("contents", [b"", b"no picture at all", b"\xff\xd8\xff\xe0"])
def test_a_file_that_is_not_a_picture_is_named(folder, contents):
    bad = folder / "red/bad.jpg"
    bad.write_bytes(contents)
    with pytest.raises(ValueError, match=r"1 of 21 files .*red/bad\.jpg"):
        find(folder)
    with pytest.raises(ValueError, match=r"bad\.jpg can't be read"):
        pictures.load_picture(bad, 8)


def test_a_damaged_picture_is_named(tmp_path):
    path = save(tmp_path / "a.png", size=(64, 64))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"a\.png can't be read.*damaged"):
        pictures.load_picture(path, 8)


def test_bad_folders_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        find(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"at least two classes.*no folder"):
        find(tmp_path)
    save(tmp_path / "red/a.jpg")
    with pytest.raises(ValueError, match=r"at least two classes.*red"):
        find(tmp_path)
    (tmp_path / "blue").mkdir()
    with pytest.raises(ValueError, match="class 'blue' has no pictures"):
        find(tmp_path)
    save(tmp_path / "blue/a.jpg")
    with pytest.raises(ValueError, match="at least two pictures"):
        find(tmp_path)


@pytest.mark.parametrize("argument", ["image_size", "batch_size"])
def test_sizes_below_one_are_refused(argument):
    with pytest.raises(ValueError, match=f"{argument} must be at least 1"):
        ki.data.load("digits", **{argument: 0})
