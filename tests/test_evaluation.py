"""Crop positions calculated by hand; evaluations of models with known answers."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_inception as ki
from keras_inception import evaluation
from keras_inception.data.pictures import fit_square


def squares(crops):
    """Top, left and size of the crops that are not mirrored."""
    return [crop[1:4] for crop in crops if not crop.mirrored]


def test_144_crops_of_a_landscape():
    # 600x400 at the short side 256 is 384x256: squares begin at 0, 64 and 128 from the
    # left. In each, crops of 224 at 0 and 32 and in the middle at 16.
    crops = evaluation.crop_geometry(height=400, width=600, crops=144)
    assert len(crops) == 144
    smallest = [crop for crop in crops if crop.picture == (256, 384)]
    assert squares(smallest) == [
        *[(0, 0, 224), (0, 32, 224), (32, 0, 224), (32, 32, 224), (16, 16, 224)],
        (0, 0, 256),
        *[(0, 64, 224), (0, 96, 224), (32, 64, 224), (32, 96, 224), (16, 80, 224)],
        (0, 64, 256),
        *[(0, 128, 224), (0, 160, 224), (32, 128, 224), (32, 160, 224)],
        (16, 144, 224),
        (0, 128, 256),
    ]
    # at 352 it is 528x352: the right square begins at 176, its corners' slack is 128
    largest = squares(crop for crop in crops if crop.picture == (352, 528))
    assert largest[12:] == [
        *[(0, 176, 224), (0, 304, 224), (128, 176, 224), (128, 304, 224)],
        (64, 240, 224),
        (0, 176, 352),
    ]
    assert [crop.picture for crop in crops[::36]] == [
        (256, 384),
        (288, 432),
        (320, 480),
        (352, 528),
    ]


def test_144_crops_of_a_portrait_go_from_top_to_bottom():
    crops = evaluation.crop_geometry(height=500, width=250, crops=144)
    # at 288: 288x576, squares begin at 0, 144 and 288 from the top
    found = squares(crop for crop in crops if crop.picture == (576, 288))
    assert found[5::6] == [(0, 0, 288), (144, 0, 288), (288, 0, 288)]
    assert found[6:11] == [
        (144, 0, 224),
        (144, 64, 224),
        (208, 0, 224),
        (208, 64, 224),
        (176, 32, 224),
    ]


def test_144_crops_of_a_square_are_144():
    crops = evaluation.crop_geometry(height=300, width=300, crops=144)
    assert len(crops) == 144
    assert {crop.picture[0] for crop in crops} == {256, 288, 320, 352}
    assert sum(crop.mirrored for crop in crops) == 72
    # the three squares coincide
    assert squares(crops)[:6] == squares(crops)[6:12] == squares(crops)[12:18]


@pytest.mark.parametrize(
    ("height", "width", "corner"), [(256, 512, (0, 128)), (512, 256, (128, 0))]
)
def test_10_crops_are_those_of_the_centered_square(height, width, corner):
    top, left = corner
    crops = evaluation.crop_geometry(height, width, crops=10)
    assert [crop.mirrored for crop in crops] == [False, True] * 5
    assert squares(crops) == [
        (top, left, 224),
        (top, left + 32, 224),
        (top + 32, left, 224),
        (top + 32, left + 32, 224),
        (top + 16, left + 16, 224),
    ]


def test_crops_of_small_networks_keep_the_proportions():
    # 256 / 224 * 32 = 36.6
    crops = evaluation.crop_geometry(32, 32, crops=10, input_size=32)
    assert squares(crops)[3] == (5, 5, 32)
    assert crops[0].picture == (37, 37)


def test_one_crop_is_what_validation_sees():
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), "uint8")
    expected = fit_square(picture, 64).numpy()
    np.testing.assert_allclose(
        evaluation.take_crops(picture, 1, 64)[0], expected, atol=1e-3
    )


def test_pixels_are_taken_where_the_geometry_says():
    picture = np.zeros((256, 384, 3), "uint8")
    picture[..., 0] = np.arange(256)[:, None]  # red is the row
    picture[..., 1] = np.arange(384)[None] // 2  # green half the column
    taken = evaluation.take_crops(picture, 144)
    assert taken.shape == (144, 224, 224, 3)
    geometry = evaluation.crop_geometry(256, 384, 144)
    for crop, pixels in zip(geometry[:36], taken[:36], strict=True):
        corner = pixels[0, -1 if crop.mirrored else 0]
        if crop.size == 224:
            assert corner[:2].tolist() == [crop.top, crop.left // 2]
    first, mirror = taken[0], taken[1]
    np.testing.assert_array_equal(mirror, first[:, ::-1])


def test_wrong_shapes_and_counts_are_refused():
    with pytest.raises(ValueError, match=r"1, 10, 144. Received: 12"):
        evaluation.crop_geometry(10, 10, 12)
    with pytest.raises(ValueError, match=r"\(height, width, 3\). Received: \(8, 8\)"):
        evaluation.take_crops(np.zeros((8, 8)), 1)


def brightness_model(classes=3, size=16):
    """Makes a model whose logits are multiples of the mean of the red channel."""
    inputs = keras.Input((size, size, 3))
    red = keras.layers.GlobalAveragePooling2D()(inputs)[:, :1] / 255
    weights = keras.layers.Dense(classes, activation="softmax", name="scores")
    model = keras.Model(inputs, {"main": weights(red)})
    kernel = np.linspace(-3, 3, classes)[None]
    weights.set_weights([kernel.astype("float32"), np.zeros(classes, "float32")])
    return model


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(1)
    sizes = [(20, 30), (30, 20), (16, 16), (40, 17), (18, 25)]
    return [random.integers(0, 256, (*size, 3), "uint8") for size in sizes]


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_probabilities_are_the_mean_over_the_crops(pictures, crops):
    model = brightness_model()
    found = list(evaluation.predict_crops([model], pictures, crops, batch_size=7))
    for picture, scores in zip(pictures, found, strict=True):
        taken = evaluation.take_crops(picture, crops, 16)
        expected = model.predict(taken, verbose=0)["main"].mean(axis=0)
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_an_ensemble_of_one_is_the_model_and_of_two_the_mean(pictures):
    one, other = brightness_model(size=16), brightness_model(size=24)
    other.get_layer("scores").set_weights(
        [-weight for weight in one.get_layer("scores").get_weights()]
    )
    single = [list(evaluation.predict_crops([m], pictures, 10)) for m in (one, other)]
    both = list(evaluation.predict_crops([one, other], pictures, 10))
    np.testing.assert_allclose(both, np.mean(single, axis=0), rtol=1e-5)
    squared = np.stack(
        [evaluation.take_crops(picture, 1, 16)[0] for picture in pictures]
    )
    np.testing.assert_allclose(
        list(evaluation.predict_crops([one], pictures)),
        one.predict(squared, verbose=0)["main"],
        rtol=1e-5,
    )


def test_logits_and_missing_arguments_are_refused(pictures):
    inputs = keras.Input((16, 16, 3))
    logits = keras.Model(inputs, keras.layers.Flatten()(inputs))
    with pytest.raises(ValueError, match="does not return probabilities"):
        list(evaluation.predict_crops([logits], pictures))
    with pytest.raises(ValueError, match="At least one model"):
        list(evaluation.predict_crops([], pictures))
    with pytest.raises(ValueError, match="no picture"):
        evaluation.evaluate([brightness_model()], [], ["a", "b", "c"])


def test_scores_confusion_and_classes():
    probabilities = np.array(
        [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.1, 0.4], [0.2, 0.5, 0.3]]
    )
    scores = evaluation.Evaluation(probabilities, np.array([0, 1, 2, 1]), list("abc"))
    assert scores.top(1) == 0.5
    assert scores.top(2) == 1.0
    assert scores.top(5) == 1.0
    assert scores.confusion.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
    assert scores.per_class_accuracy.tolist() == [1.0, 0.5, 0.0]
    found = scores.per_class
    assert found["pictures"].tolist() == [1, 2, 1]
    assert found["precision"].tolist() == [0.5, 1.0, 0.0]
    assert found["recall"].tolist() == scores.per_class_accuracy.tolist()
    np.testing.assert_allclose(found["f1"], [2 / 3, 2 / 3, 0.0])
    averages = {"precision": 0.5, "recall": 0.5, "f1": 4 / 9}
    assert scores.macro_averages == pytest.approx(averages)


def test_a_class_without_pictures_has_no_recall_and_does_not_count():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    scores = evaluation.Evaluation(probabilities, np.array([0, 1]), list("abc"))
    for recall in (scores.per_class["recall"], scores.per_class_accuracy):
        np.testing.assert_array_equal(recall, [1.0, 0.0, np.nan])
    assert scores.per_class["precision"].tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(scores.per_class["f1"][2])
    averages = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert scores.macro_averages == pytest.approx(averages)


def test_the_most_confident_mistakes_come_first_and_are_drawn(tmp_path):
    model = brightness_model()
    levels = np.linspace(0, 255, 60).astype("uint8")
    flat = [np.full((20, 20, 3), level) for level in levels]
    found = evaluation.evaluate([model], [(p, 0) for p in flat], list("abc"))
    probabilities = [mistake.probability for mistake in found.mistakes]
    assert len(probabilities) == 25
    assert probabilities == sorted(probabilities, reverse=True)
    assert found.mistakes[0].index == 59
    wrong = np.sort(found.probabilities.max(axis=1)[found.predicted != 0])[::-1]
    np.testing.assert_allclose(probabilities, wrong[:25])
    assert (found.mistakes[0].picture == 255).all()
    evaluation.draw_confusion(found, tmp_path / "confusion.png")
    evaluation.draw_mistakes(found, tmp_path / "mistakes.png")
    for name in ("confusion.png", "mistakes.png"):
        header = (tmp_path / name).read_bytes()[:8]
        assert header == b"\x89PNG\r\n\x1a\n"


def test_a_googlenet_is_evaluated_by_its_main_output(pictures):
    model = ki.GoogLeNet((64, 64, 3), classes=3, width=0.125)
    found = evaluation.evaluate([model], [(p, 0) for p in pictures], list("abc"))
    taken = np.stack([evaluation.take_crops(p, 1, 64)[0] for p in pictures])
    expected = model.predict(taken, verbose=0)["main"]
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-4)


ELSEWHERE = """
import sys
import keras, numpy as np
from keras_inception import evaluation

inputs = keras.Input((16, 16, 3))
scores = keras.layers.GlobalAveragePooling2D()(inputs) / 255
model = keras.Model(inputs, {"main": keras.layers.Softmax()(scores), "aux": scores})
picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), "uint8")
taken = evaluation.take_crops(picture, 10, 16)
expected = np.exp(taken.mean((1, 2)) / 255)
expected = (expected / expected.sum(axis=1, keepdims=True)).mean(axis=0)
found = evaluation.evaluate([model], [(picture, 0)], list("abc"), crops=10)
np.testing.assert_allclose(found.probabilities[0], expected, rtol=1e-4)
print(taken.mean())
assert "tensorflow" not in sys.modules
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_other_backends(backend):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), "uint8")
    ours = evaluation.take_crops(picture, 10, 16).mean()
    assert float(done.stdout) == pytest.approx(float(ours), abs=0.01)
