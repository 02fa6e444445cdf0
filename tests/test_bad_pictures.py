"""Every kind of bad file, found beforehand or in the middle of a run."""

import os
import struct
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_inception as ki
from keras_inception.data import BadPictures, find, load_picture

GOOD = 24


def noise(path, size=(40, 30), **arguments):
    """Writes a picture that compresses badly, so that damage hits its contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), "uint8")
    Image.fromarray(pixels).save(path, **arguments)
    return path


@pytest.fixture
def folder(tmp_path):
    """Twelve good pictures in each of two classes."""
    for name in ("a", "b"):
        for index in range(GOOD // 2):
            noise(tmp_path / f"{name}/{index:02}.{'jpg' if index % 2 else 'png'}")
    return tmp_path


def bomb(path):
    """Writes a PNG file of a hundred bytes that claims to have 60000x60000 pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0" * 99))
        + chunk(b"IEND", b"")
    )


def cut_short(path):
    noise(path)
    path.write_bytes(path.read_bytes()[:-400])


def large(path):
    """Writes a header that Pillow accepts but that exceeds the limit of pixels."""
    header = b"P6 20000 6000 255\n"
    path.write_bytes(header + b"\0" * 100)


BAD = {
    "empty.jpg": (lambda path: path.write_bytes(b""), "it is empty"),
    "words.png": (lambda path: path.write_text("words"), "contents are not a picture"),
    "short.jpg": (cut_short, "the end is missing"),
    "short.png": (cut_short, "the end is missing"),
    "bomb.png": (bomb, "60000x60000 pixels"),
    "large.jpg": (large, "20000x6000 pixels are more than the limit"),
    "gone.jpg": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "circle.jpg": (lambda path: path.symlink_to("circle.jpg"), "symbolic links"),
    "pipe.jpg": (os.mkfifo, "it is not a regular file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_skipped_and_named(folder, name):
    make, fault = BAD[name]
    make(folder / "a" / name)
    source = find(folder, max_bad_fraction=0.05)
    assert len(source.train) + len(source.validation) == GOOD
    assert list(source.bad.faults) == [str(folder / "a" / name)]
    assert fault in source.bad.faults[str(folder / "a" / name)]
    with pytest.raises(ValueError, match=rf"1 of 25 files .*limit of 1.0%.*{name}"):
        find(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(folder):
    (folder / "a/00.png").chmod(0)
    source = find(folder, max_bad_fraction=0.05)
    assert source.bad.report() == [
        {"file": str(folder / "a/00.png"), "fault": "Permission denied"}
    ]


def test_odd_but_good_files_are_read(folder):
    Image.new("RGB", (1, 1), "red").save(folder / "a/dot.png")
    wide = np.full((20, 20), 40000, "uint16")
    Image.fromarray(wide).save(folder / "a/sixteen_bits.png")
    noise(folder / "a/x.png").rename(folder / "a/really_png.jpg")
    noise(folder / "a/x.webp").rename(folder / "a/really_webp.jpg")
    tail = noise(folder / "a/with_a_tail.jpg")
    tail.write_bytes(tail.read_bytes() + b"\0" * 1000)
    video = noise(folder / "a/with_a_video.jpg")
    video.write_bytes(video.read_bytes() + b"\0" * 100_000)
    for mode in ("L", "CMYK"):
        Image.new(mode, (50, 40)).save(folder / f"a/{mode}.jpg")
    (folder / "a/again").symlink_to(folder / "a")  # a circle of folders
    for augment in ("none", "basic", "paper"):
        data = ki.data.load(folder, 16, 8, augment=augment)
        seen = sum(
            len(labels) for part in (data.train, data.validation) for _, labels in part
        )
        assert seen == GOOD + 8
        assert not data.bad


def test_a_class_without_any_good_file_is_an_error(folder):
    for path in (folder / "b").iterdir():
        path.write_text("words")
    with pytest.raises(ValueError, match="class 'b' has no pictures: all of its files"):
        find(folder, max_bad_fraction=1.0)


def first_png(split):
    return Path(next(path for path in split.paths if path.endswith("png")))


def damage(path):
    """Damages a PNG file in its middle; its header and end stay intact."""
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 0xFF
    path.write_bytes(contents)
    return str(path)


def test_a_file_damaged_after_its_header_is_named_while_training(folder):
    data = ki.data.load(folder, 16, 4, max_bad_fraction=0.2)
    assert not data.bad
    damaged = {
        damage(first_png(split))
        for split in (data.source.train, data.source.validation)
    }
    train, validation = len(data.source.train), len(data.source.validation)
    # an epoch keeps its length; validation is one picture short
    for _ in range(2):
        assert sum(len(labels) for _, labels in data.train) == train
        assert sum(len(labels) for _, labels in data.validation) == validation - 1
    assert len(data.train) == -(-train // 4)
    assert len(data.validation) == -(-validation // 4)
    faults = {fault["file"]: fault["fault"] for fault in data.bad.report()}
    assert faults.keys() == damaged
    assert set(faults.values()) == {"its contents are damaged"}


def test_a_missing_last_picture_is_named(folder):
    data = ki.data.load(folder, 16, 4, max_bad_fraction=0.2)
    last = data.source.validation.paths[-1]
    batches = len(list(data.validation))
    os.remove(last)
    assert len(list(data.validation)) == batches
    assert data.bad.report() == [{"file": last, "fault": "No such file or directory"}]


def test_too_many_bad_files_are_an_error(folder):
    data = ki.data.load(folder, 16, 4)
    damage(first_png(data.source.train))
    for _ in data.train:
        pass
    with pytest.raises(ValueError, match=r"1 of 24 files.*damaged.*--max-bad-fraction"):
        data.bad.check()
    data.bad.check(max_fraction=1.0)


def test_fit_continues_past_bad_pictures(folder):
    data = ki.data.load(folder, 16, 4, max_bad_fraction=0.2)
    for split in (data.source.train, data.source.validation):
        damage(first_png(split))
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, "softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy")
    model.fit(
        data.train,
        validation_data=data.validation,
        epochs=2,
        verbose=0,
        shuffle=False,
        class_weight={0: 1.0, 1: 2.0},
    )
    assert len(data.bad) == 2


def test_whole_pictures_leave_bad_ones_out(folder):
    source = find(folder, max_bad_fraction=0.1)
    bad = damage(first_png(source.validation))
    seen = list(ki.data.whole_pictures(source, source.validation))
    assert len(seen) == len(source.validation) - 1
    assert bad not in {name for *_, name in seen}
    assert all(picture.shape == (30, 40, 3) for picture, *_ in seen)
    assert list(source.bad.faults) in ([], [bad])
    assert len(source.bad) == 1


def test_the_limit_is_a_fraction():
    with pytest.raises(ValueError, match=r"from 0 to 1\. Received: 5"):
        BadPictures(5)


def test_a_bomb_is_not_opened_for_prediction(tmp_path):
    bomb(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="60000x60000 pixels"):
        load_picture(tmp_path / "bomb.png", 8)


def test_a_sample_of_a_split_without_good_pictures_is_an_error(folder):
    source = find(folder)
    for path in folder.rglob("*.*"):  # damaged after they were found
        path.write_bytes(b"no picture")
    count = len(source.validation)
    with pytest.raises(ValueError, match=f"of the split's {count} files none can be"):
        ki.data.sample(source, source.validation, 8, 32)
