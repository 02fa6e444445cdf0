"""Wrong labels rank first: in tables of probabilities, and by the command."""

import csv

import keras
import numpy as np
import pytest
from conftest import small_supervised
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import keras_inception as ki
import keras_inception_cli
from keras_inception import evaluation, training

PICTURES, FLIPPED = 600, 30


def test_the_least_probable_label_of_all_outputs_is_first():
    main = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    head = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.2, 0.8]])
    found = evaluation.find_suspects({"main": main, "aux": head}, np.array([0] * 4))
    # the second's mean is 0.5 as well, but its geometric mean is 0.3
    assert found.ranking.tolist() == [3, 1, 2, 0]
    assert found.suggested.tolist() == [0, 0, 0, 1]
    usual = np.mean([0.9, 0.3, 0.5, 0.2])
    np.testing.assert_allclose(found.scores[3], 1 - 0.2 / usual)
    np.testing.assert_array_equal(found.label_probabilities["aux"], head[:, 0])


def test_a_label_is_compared_with_its_class_and_split():
    usual = {("a", 0): 0.9, ("a", 1): 0.4, ("b", 0): 0.6, ("b", 1): 0.3}
    groups = [key for key in usual for _ in range(10)]
    splits, labels = np.array([x for x, _ in groups]), np.array([y for _, y in groups])
    of_label = np.array([usual[key] for key in groups])
    wrong = np.arange(0, 40, 10)  # one of each group, half as probable as the others
    of_label[wrong] /= 2
    of_label = of_label[:, None]
    main = np.where(labels[:, None] == [0, 1], of_label, 1 - of_label)
    found = evaluation.find_suspects({"main": main}, labels, splits)
    assert set(found.ranking[:4]) == set(wrong)
    # 0.45, half of what is usual there, is more than anything in the group of 0.3
    assert found.ranking[0] == 0 or found.scores[0] == pytest.approx(found.scores[30])


def test_a_label_without_any_probability_is_a_number():
    main = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    found = evaluation.find_suspects({"main": main}, np.array([0, 0, 0]))
    np.testing.assert_allclose(found.scores, [1, 1, -2], atol=1e-6)
    found = evaluation.find_suspects({"main": main}, np.array([0, 0, 1]))
    np.testing.assert_allclose(found.scores, 0, atol=1e-6)  # all are as usual there
    with pytest.raises(ValueError, match="no picture"):
        evaluation.find_suspects({"main": main[:0]}, np.array([], int))


def batch(count=5):
    return np.random.default_rng(0).uniform(0, 255, (count, 8, 8, 3)).astype("float32")


def test_superclasses_logits_and_mirror_images_become_class_probabilities():
    model = small_supervised(superclasses=["x", "y", "x"])
    expected = model.predict(batch(), verbose=0)
    (found,) = evaluation.class_probabilities(model, [batch()])
    np.testing.assert_allclose(found["main"], expected["main"], rtol=1e-5)
    np.testing.assert_allclose(found["aux"], expected["aux"][:, [0, 1, 0]], rtol=1e-5)
    (both,) = evaluation.class_probabilities(model, [batch()], mirror=True)
    mirrored = model.predict(batch()[:, :, ::-1], verbose=0)["main"]
    np.testing.assert_allclose(
        both["main"], (expected["main"] + mirrored) / 2, rtol=1e-5
    )
    # a classifier of anyone's, whose output is logits
    images = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(images) / 255)
    plain = keras.Model(images, logits)
    (found,) = evaluation.class_probabilities(plain, [batch()])
    softmax = keras.ops.softmax(plain.predict(batch(), verbose=0))
    np.testing.assert_allclose(found["main"], softmax, rtol=1e-4)


def test_outputs_that_predict_no_classes_are_refused():
    images = keras.Input((8, 8, 3))
    features = keras.layers.Flatten()(images) / 255
    sigmoid = keras.Model(images, keras.layers.Dense(3, activation="sigmoid")(features))
    with pytest.raises(ValueError, match="neither probabilities"):
        next(evaluation.class_probabilities(sigmoid, [batch()]))
    softmax = keras.layers.Dense(3, activation="softmax")(features)
    other = keras.layers.Dense(4, activation="softmax")(features)
    wide = keras.Model(images, {"main": softmax, "other": other})
    with pytest.raises(ValueError, match="'other' has 4 columns, 'main' has 3"):
        next(evaluation.class_probabilities(wide, [batch()]))
    several = keras.Model(images, [softmax, other])
    with pytest.raises(ValueError, match="none of which is called 'main'"):
        next(evaluation.class_probabilities(several, [batch()]))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder of digits, some in a wrong class folder: the folder, and their files."""
    root, random = (
        tmp_path_factory.mktemp("suspects") / "figures",
        np.random.default_rng(0),
    )
    bunch = load_digits()
    flipped = set(random.choice(PICTURES, FLIPPED, replace=False).tolist())
    wrong = set()
    for number in range(PICTURES):
        label = int(bunch.target[number])
        if number in flipped:
            label = (label + random.integers(1, 10)) % 10
        file = root / f"is {label}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = (bunch.images[number] * 15).astype("uint8")
        Image.fromarray(pixels).convert("RGB").save(file)
        if number in flipped:
            wrong.add(str(file))
    (root / "is 0" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    return root, wrong


def digits_model(superclasses):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dense(32, activation="relu", name="first")(x)
    x = keras.layers.Dense(32, activation="relu")(x)
    x = keras.layers.Dense(10, activation="softmax")(x)
    head = ki.AuxiliaryHead("first", "aux", units=32, superclasses=superclasses)
    model = ki.attach_auxiliary(keras.Model(inputs, x), [head])
    model.compile(keras.optimizers.Adam(0.005))
    return model


@pytest.fixture(scope="module")
def models(digits, tmp_path_factory):
    """Models that learned the wrong labels, in a run's directory and outside."""
    root, _ = digits
    folder = tmp_path_factory.mktemp("models")
    source = ki.data.find(root, max_bad_fraction=0.1)
    read = list(ki.data.whole_pictures(source, source.train, 8))
    images, labels = (np.array(part) for part in list(zip(*read, strict=True))[:2])
    parity = ["even", "odd"] * 5
    paths = {}
    for name, superclasses in (("heads", None), ("coarse", parity)):
        model = digits_model(superclasses)
        model.class_names = source.class_names
        model.fit(images, labels, epochs=15, verbose=0)
        paths[name] = folder / f"{name}.keras"
        model.save(paths[name])
    plain = ki.detach_auxiliary(model)
    paths["no heads"] = folder / "plain.keras"
    plain.save(paths["no heads"])
    run = training.RunDirectory.create(folder / "run")
    run.begin(training.RunConfig(str(root), 25, ("first",)))
    run.model.write_bytes(paths["heads"].read_bytes())
    return paths | {"run": run.model}


def command(*words):
    return keras_inception_cli.main([str(word) for word in words])


@pytest.mark.parametrize(
    ("name", "outputs", "splits"),
    [
        ("run", ["main", "aux"], {"train", "validation"}),
        ("coarse", ["main", "aux"], {"all"}),
        ("no heads", ["main"], {"all"}),
    ],
)
def test_the_command_ranks_wrong_labels_first(
    digits, models, tmp_path, monkeypatch, capsys, name, outputs, splits
):
    root, wrong = digits
    monkeypatch.chdir(tmp_path)
    words = ("data", root, "--max-bad-fraction", 0.1, "--suspects", models[name])
    assert command(*words) == 0
    with open("figures-suspects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("picture", "split", "label", "suggested", "score"),
        *outputs,
    ]
    assert len(rows) == PICTURES
    assert {row["split"] for row in rows} == splits
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    is_wrong = [row["picture"] in wrong for row in rows]
    assert sum(is_wrong) == FLIPPED
    assert roc_auc_score(is_wrong, scores) > 0.9
    assert sum(is_wrong[:FLIPPED]) > FLIPPED / 2
    printed = capsys.readouterr().out
    assert "damaged.png" in printed
    assert f"the 25 most suspicious labels of {PICTURES}:" in printed
    first = next(row for row in rows if row["label"] != row["suggested"])
    (line,) = [line for line in printed.splitlines() if first["picture"] in line]
    assert first["label"] in line
    assert first["suggested"] in line
    with Image.open("figures-suspects.png") as sheet:
        assert sheet.format == "PNG"
        assert np.asarray(sheet.convert("L")).std() > 20  # not blank


def test_mistaken_requests_are_refused_before_any_work(
    digits, models, tmp_path, capsys
):
    root, _ = digits
    suspects = ("--suspects", models["heads"])
    requests = {
        ("data", root, *suspects, "--quick", "--json", tmp_path / "x.json"): (
            "--json, --quick can't be combined with --suspects"
        ),
        ("data", root, *suspects, "--output", tmp_path / "x.csv"): "must end in .png",
        ("data", "x:labels.csv", *suspects, "--output", "labels.png"): (
            "would replace DATA, labels.csv"
        ),
        ("data", "digits", *suspects): "classes",
        ("data", root, "--suspects", tmp_path / "none.keras"): "There is no model",
    }
    for words, message in requests.items():
        assert command(*words) != 0
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_suspects_of_cached_pictures_are_named(digits, models, tmp_path):
    root, _ = digits
    words = ("data", root, "--max-bad-fraction", 0.1, "--suspects", models["run"])
    words += ("--cache", "--data-dir", tmp_path, "--output", tmp_path / "x.png")
    assert command(*words) == 0
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["picture"] for row in rows}) == PICTURES
    assert all(f"/{row['label']}/" in row["picture"] for row in rows)
