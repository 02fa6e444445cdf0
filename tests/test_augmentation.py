"""Augmentation, and that order and crops are functions of seed and epoch."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_inception as ki
from keras_inception.data import augmentation, decoding


def windows(height, width, count=2000):
    """Draws many crops, `(count, 4)`."""
    draws = np.random.default_rng(0).uniform(size=(count, 22)).astype("float32")

    @tf.function
    def window(draw):
        crops = tf.reshape(draw[2:], (10, 2))
        return augmentation.crop_window(
            tf.constant([height, width, 3]), crops, draw[:2]
        )

    return tf.map_fn(window, draws, fn_output_signature=tf.int32).numpy()


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (64, 64)])
def test_crops_are_those_of_the_paper(height, width):
    top, left, tall, wide = windows(height, width).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()
    area = tall * wide / (height * width)
    # half a pixel of rounding on each side
    slack = 0.5 / tall + 0.5 / wide
    assert (area >= 0.08 * (1 - 2 * slack)).all()
    assert area.max() > 0.95
    assert ((wide / tall) >= 3 / 4 * (1 - 2 * slack)).all()
    assert ((wide / tall) <= 4 / 3 * (1 + 2 * slack)).all()
    # corners are reached on all sides
    assert top.min() == left.min() == 0
    assert (top + tall).max() == height
    assert (left + wide).max() == width


def test_areas_are_uniform():
    # small crops always fit and are never redrawn: compare parts of 8 to 40 %
    _, _, tall, wide = windows(1000, 1000, count=4000).T
    area = tall * wide / 1e6
    counts, _ = np.histogram(area, bins=np.linspace(0.08, 0.4, 5))
    # about 350 crops in each part: five standard deviations, which are below 19
    assert np.ptp(counts) < 5 * 19


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3000, 2)])
def test_a_picture_that_no_crop_fits_yields_its_largest(shape):
    top, left, tall, wide = windows(*shape, count=50).T
    assert (tall >= 1).all()
    assert (wide >= 1).all()
    assert (top + tall <= shape[0]).all()
    assert (left + wide <= shape[1]).all()


def jitter_colors(picture, *draws):
    return augmentation.jitter_colors(
        tf.constant(picture), *map(tf.constant, draws)
    ).numpy()


def test_the_middle_of_every_draw_keeps_colors():
    picture = np.random.default_rng(0).uniform(0, 255, (8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        jitter_colors(picture, 0.5, 0.5, 0.5, 0.5), picture, atol=1e-2
    )


def test_each_draw_changes_its_property():
    random = np.random.default_rng(0)
    picture = random.uniform(90, 160, (8, 8, 3)).astype("float32")
    luminance = picture @ np.array([0.299, 0.587, 0.114], "float32")
    brighter = jitter_colors(picture, 1.0, 0.5, 0.5, 0.5)
    np.testing.assert_allclose(brighter, picture * 1.4, atol=0.1)
    flatter = jitter_colors(picture, 0.5, 0.0, 0.5, 0.5)
    mean = luminance.mean()
    np.testing.assert_allclose(flatter, mean + 0.6 * (picture - mean), atol=0.1)
    paler = jitter_colors(picture, 0.5, 0.5, 0.0, 0.5)
    gray = luminance[..., None]
    np.testing.assert_allclose(paler, gray + 0.6 * (picture - gray), atol=0.1)
    turned = jitter_colors(picture, 0.5, 0.5, 0.5, 1.0)
    np.testing.assert_allclose(
        turned @ np.array([0.299, 0.587, 0.114]), luminance, atol=0.1
    )
    # 18 degrees: a chord of 2 sin(9 degrees) of the colors' distance from gray in the
    # plane of I and Q (rows: the FCC's definition of YIQ)
    chroma_axes = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    moved = np.linalg.norm((turned - picture) @ chroma_axes.T, axis=-1)
    chroma = np.linalg.norm(picture @ chroma_axes.T, axis=-1)
    np.testing.assert_allclose(moved, 2 * np.sin(np.pi / 20) * chroma, atol=0.1)


def augmented(kind, picture, key, side=32, **arguments):
    return augmentation.augmented(
        kind,
        lambda: tf.constant(picture),
        lambda window, side: decoding.crop(tf.constant(picture), window),
        side,
        tf.constant(key, tf.int64),
        **arguments,
    ).numpy()


@pytest.mark.parametrize("kind", ["none", "basic", "paper"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (50, 70), (300, 90)])
def test_every_shape_becomes_a_square(kind, shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    for number in range(6):
        out = augmented(kind, picture, (3, number))
        assert out.shape == (32, 32, 3)
        assert out.dtype == np.float32
        assert out.min() >= 0
        assert out.max() <= 255
    again = augmented(kind, picture, (3, 5))
    np.testing.assert_array_equal(out, again)
    if kind != "none" and min(shape) > 1:
        assert not np.array_equal(out, augmented(kind, picture, (4, 5)))


def test_basic_shifts_by_up_to_an_eighth_and_mirrors():
    picture = np.zeros((32, 32, 3), "uint8")
    picture[16, 10] = 255
    seen = set()
    for number in range(300):
        out = augmented("basic", picture, (0, number))
        row, column = np.argwhere(out[..., 0] == 255)[0].tolist()
        seen.add((row - 16, column - 10 if column < 16 else 21 - column, column < 16))
    assert {shift for shift, _, _ in seen} == set(range(-4, 5))
    assert {shift for _, shift, _ in seen} == set(range(-4, 5))
    assert {side for *_, side in seen} == {True, False}
    for number in range(50):
        out = augmented("basic", picture, (0, number), mirror=False)
        assert np.argwhere(out[..., 0] == 255)[0][1] < 16


def test_paper_resizes_by_one_of_four_methods(monkeypatch):
    monkeypatch.setattr(augmentation, "LIGHT", (1.0, 1.0))
    monkeypatch.setattr(augmentation, "HUE", 0.0)
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), "uint8")
    expected = {
        method: np.clip(tf.image.resize(picture, (32, 32), method), 0, 255)
        for method in ("bilinear", "area", "nearest", "bicubic")
    }
    used = set()
    for number in range(40):
        out = augmentation.augmented(
            "paper",
            lambda: tf.constant(picture),
            lambda window, side: tf.constant(picture),  # ignores the window
            32,
            tf.constant((0, number), tf.int64),
            mirror=False,
        )
        (method,) = (m for m, x in expected.items() if np.allclose(out, x, atol=0.1))
        used.add(method)
    assert used == set(expected)


def batches(**arguments):
    data = ki.data.load("digits", image_size=16, batch_size=500, **arguments)
    return [
        [(images.numpy(), labels.numpy()) for images, labels in data.train]
        for _ in range(3)
    ]


def same(a, b):
    return all(
        np.array_equal(x, y)
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one, other, strict=True)
    )


def test_order_and_crops_are_functions_of_seed_and_epoch():
    first = batches(seed=5)
    tf.random.set_seed(99)  # must have no effect
    again = batches(seed=5)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], first[1])
    resumed = ki.data.load("digits", 16, 500, seed=5, first_epoch=2)
    iter(resumed.train)  # Keras makes iterators that it never uses
    resumed = [(x.numpy(), y.numpy()) for x, y in resumed.train]
    assert same(resumed, first[2])
    other = batches(seed=6)
    assert not same(other[0], first[0])


def test_every_picture_is_seen_once_each_epoch_and_augmented_anew():
    plain = ki.data.load("digits", 8, 2000, augment="none")
    basic = ki.data.load("digits", 16, 2000, augment="basic")
    (one,), (other,) = list(plain.train), list(basic.train)
    np.testing.assert_array_equal(one[1], other[1])  # the same order
    (after,) = list(basic.train)
    assert not np.array_equal(other[0], after[0])
    rows = one[0].numpy().reshape(len(one[0]), -1)
    expected = plain.source.train.elements[0].astype("float32").reshape(rows.shape)
    assert np.array_equal(np.unique(rows, axis=0), np.unique(expected, axis=0))


def test_defaults_depend_on_the_pictures(tmp_path):
    assert ki.data.load("digits", 32).augmentation == "basic"
    assert not ki.data.load("digits", 32).source.mirror
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.new("RGB", (150, 120)).save(tmp_path / name / f"{index}.png")
    data = ki.data.load(tmp_path, 64)
    assert data.augmentation == "paper"
    assert data.source.mirror
    assert data.source.picture_size == 120
    with pytest.raises(ValueError, match=r"none, basic, paper. Received: 'no-such'"):
        ki.data.load("digits", augment="no-such")


PARALLEL = """
import sys, tempfile
from pathlib import Path
import keras, tensorflow as tf
from PIL import Image
import keras_inception as ki

keras.utils.set_random_seed(0)
tf.config.experimental.enable_op_determinism()
root = Path(tempfile.mkdtemp())
for name in ("a", "b"):
    (root / name).mkdir()
    for index in range(4):
        Image.new("RGB", (120, 120)).save(root / name / f"{index}.jpg")

def read():
    data = ki.data.load(root, 32, 2)
    for _ in data.train: pass
    for _ in data.validation: pass

read()
print("Now with Python in the graph:", file=sys.stderr, flush=True)
Image.new("RGB", (120, 120)).save(root / "a" / "tiff.png", format="tiff")
read()
"""


def test_the_pipeline_stays_parallel_where_operations_are_deterministic():
    # tf.data replaces a parallel map by a sequential one if anything in the pipeline is
    # stateful, as Python is, and then warns about the sequential one by name
    done = subprocess.run(
        [sys.executable, "-c", PARALLEL], capture_output=True, text=True, check=True
    )
    ours, with_python = done.stderr.split("Now with Python in the graph:")
    assert "MapDataset" not in ours
    assert "MapDataset" in with_python
