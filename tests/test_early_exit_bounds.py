"""Calibration with a cost instead of a drop, and with a bound that is tested."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_inception as ki
from keras_inception.early_exit import bounds, search
from keras_inception.early_exit.answers import Answers
from keras_inception.early_exit.calibration import calibrate
from keras_inception.early_exit.choosing import Goal
from keras_inception.early_exit.points import Judge


def test_intervals_of_shares_are_exact():
    # Clopper & Pearson 1934, by the quantiles of the beta distribution
    assert bounds.share_interval(3, 100, 0.95) == pytest.approx(
        (0.00622997, 0.08517605), abs=1e-7
    )
    # nothing in n trials: the upper bound is 1 - (risk / 2)^(1 / n)
    low, high = bounds.share_interval(0, 50, 0.95)
    assert (low, high) == pytest.approx((0, 1 - 0.025 ** (1 / 50)), abs=1e-7)
    assert bounds.share_interval(50, 50, 0.95) == pytest.approx((1 - high, 1))


@pytest.mark.parametrize(("lost", "gained"), [(0.2, 0.1), (0.3, 0.0), (0.05, 0.05)])
def test_probabilities_of_the_statistic_are_those_of_drawn_pictures(lost, gained):
    pictures, drop = 40, lost - gained
    random = np.random.default_rng(0)
    drawn = random.multinomial(pictures, [lost, gained, 1 - lost - gained], 100_000)
    losses, gains, _ = drawn.T
    statistic = (losses - gains - pictures * drop) / np.sqrt(losses + gains + 1)
    for most in (-1.5, -0.5, 0.3, 1.0):
        found = bounds._tail(most + 1e-7, pictures, drop, lost + gained)
        assert found == pytest.approx(np.mean(statistic <= most + 1e-7), abs=0.006)


@pytest.mark.parametrize("allowed", [0.0, 0.01])
def test_a_drop_that_is_too_large_is_seldom_accepted(allowed):
    random = np.random.default_rng(1)
    for gained in (0.0, 0.02):
        lost = allowed + gained
        drawn = random.multinomial(300, [lost, gained, 1 - lost - gained], 400)
        accepted = [bounds.drop_is_below(allowed, b, c, 300, 0.9) for b, c, _ in drawn]
        assert np.mean(accepted) < 0.14  # 0.1, and three standard deviations


def test_a_small_drop_is_accepted_and_bounded():
    assert bounds.drop_is_below(0.01, losses=0, gains=0, pictures=400, level=0.95)
    assert not bounds.drop_is_below(0.0, losses=0, gains=0, pictures=400, level=0.95)
    # nothing in n pictures: a drop beyond 1 - risk^(1 / n) would have shown
    nothing = bounds.largest_drop(0, 0, 1000, 0.95)
    assert nothing == pytest.approx(1 - 0.05 ** (1 / 1000), rel=0.02)
    for losses, gains in ((3, 1), (20, 20), (2, 9), (0, 15)):
        found = bounds.largest_drop(losses, gains, 1000, 0.95)
        near = bounds.estimated_bound(
            (losses - gains) / 1000, (losses + gains) / 1000, 1000, 0.95
        )
        assert found == pytest.approx(near, rel=0.35)
        assert bounds.drop_is_below(found + 2e-4, losses, gains, 1000, 0.95)
        assert not bounds.drop_is_below(found - 2e-4, losses, gains, 1000, 0.95)


def drawn_answers(pictures, random, exit_accuracy=0.8):
    """Answers of an exit and of main, whose confidences say something."""
    labels = random.integers(0, 3, pictures)
    hard = random.uniform(size=pictures)
    probabilities = {}
    for name, accuracy in (("aux", exit_accuracy), ("main", 0.85)):
        right = hard < accuracy
        sure = np.where(right, 0.4 + 0.6 * (1 - hard), 0.4 + 0.2 * random.uniform())
        given = np.repeat((1 - sure)[:, None] / 2, 3, axis=1)
        answers = np.where(right, labels, (labels + 1) % 3)
        given[np.arange(pictures), answers] = sure
        probabilities[name] = given
    return Answers(probabilities, labels)


def cost(used, answer):
    return 100.0 if answer == 1 else 30.0


def test_the_allowed_drop_is_that_on_other_pictures(monkeypatch):
    """Three exits with mistakes of their own leave much to luck."""
    monkeypatch.setattr(search, "CELLS", 4000)
    random = np.random.default_rng(0)
    labels = np.zeros(40_000, int)

    def output(accuracy):
        given = random.uniform(0.5, 1, len(labels))
        right = random.uniform(size=len(labels)) < accuracy(given)
        return np.where(right, [given, 1 - given], [1 - given, given]).T

    probabilities = {name: output(lambda sure: 0.5 + 0.46 * sure) for name in "abc"}
    everyone = Answers(probabilities | {"main": output(lambda sure: 0.9)}, labels)
    drops, expected, unused = [], [], 0
    for _ in range(40):
        found = calibrate(
            everyone.take(random.integers(0, len(labels), 400)),
            "max_probability",
            lambda used, answer: (20.0, 40.0, 60.0, 100.0)[answer],
            Goal(0.02),
        )
        judge = Judge(everyone, "max_probability", found.temperatures)
        losses, gains = judge.losses_and_gains(found.chosen.thresholds)
        drops.append((losses - gains) / len(labels))
        expected.append(found.expected_drop)
        unused += not found.chosen.thresholds
        assert found.main.accuracy - found.chosen.accuracy <= 0.02 + 1e-9
    assert max(expected) <= 0.02 + 1e-9
    assert unused == 0  # it was 3 when drops were tried instead of margins
    assert np.mean(drops) <= 0.02 + 2 * np.std(drops) / len(drops) ** 0.5


@pytest.mark.slow
def test_a_tested_drop_holds_where_a_chosen_one_does_not():
    everyone = drawn_answers(200_000, np.random.default_rng(3), exit_accuracy=0.79)
    violations = {None: 0, 0.9: 0}
    random = np.random.default_rng(4)
    allowed = 0.02
    for _ in range(40):
        found = everyone.take(random.integers(0, len(everyone.labels), 600))
        for level in violations:
            goal = Goal(allowed, None, level)
            chosen = calibrate(found, "max_probability", cost, goal).chosen
            threshold = chosen.thresholds.get("aux", np.inf)
            leaves = everyone.confidences("max_probability", {})["aux"] >= threshold
            correct = everyone.correct
            exits = np.where(leaves, correct["aux"], correct["main"]).mean()
            violations[level] += correct["main"].mean() - exits > allowed
    assert violations[0.9] <= 8  # 4, and two standard deviations
    assert violations[0.9] <= violations[None]


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    x = layers.Dense(6, activation="relu", name="first")(x)
    x = layers.Dense(40, activation="relu")(x)
    plain = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    return ki.attach_auxiliary(plain, [ki.AuxiliaryHead("first", "aux", units=4)])


@pytest.fixture(scope="module")
def pictures(model):
    images = np.random.default_rng(0).uniform(0, 255, (80, 8, 8, 3)).astype("float32")
    answers = model.predict(images, verbose=0)
    labels = answers["main"].argmax(-1)  # main is always right
    return images, labels


def test_a_cost_instead_of_a_drop(model, pictures, tmp_path):
    for share in (0.95, 1.0):
        early = ki.EarlyExit.calibrate(model, pictures, max_cost=share)
        found = early.calibration
        assert found.chosen.multiply_adds <= share * found.main.multiply_adds
        cheaper = [
            p for p in found.curve if p.multiply_adds < found.chosen.multiply_adds
        ]
        assert all(p.accuracy < found.chosen.accuracy for p in cheaper)
        assert found.max_accuracy_drop is None
    assert found.chosen.accuracy == 1
    with pytest.raises(ValueError, match=r"at most 0\.01 of .*cheapest"):
        ki.EarlyExit.calibrate(model, pictures, max_cost=0.01)


def test_a_bound_is_kept_in_the_file(model, pictures, tmp_path):
    early = ki.EarlyExit.calibrate(
        model, pictures, 0.9, confidence_level=0.95, exits=["aux"]
    )
    found = early.calibration
    assert found.chosen.largest_drop <= 0.9
    assert all(point.largest_drop is not None for point in found.curve)
    drop = found.main.accuracy - found.chosen.accuracy
    assert 0 < drop < found.chosen.largest_drop
    early.save(tmp_path / "exits.json")
    again = ki.EarlyExit.load(tmp_path / "exits.json", model)
    assert again.calibration == found
    content = json.loads((tmp_path / "exits.json").read_text())
    del content["calibration"]["confidence_level"]  # as an earlier version wrote it
    (tmp_path / "exits.json").write_text(json.dumps(content))
    assert ki.EarlyExit.load(tmp_path / "exits.json", model).thresholds
    content["calibration"]["curve"] = 3
    (tmp_path / "exits.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="curve is 3; expected a list"):
        ki.EarlyExit.load(tmp_path / "exits.json", model)
    # with a cost, the level says how large the drop may be
    within = ki.EarlyExit.calibrate(
        model, pictures, max_cost=0.99, confidence_level=0.95
    ).calibration
    assert within.chosen.largest_drop > within.main.accuracy - within.chosen.accuracy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_accuracy_drop": 0.1, "max_cost": 0.5}, "Only one of max_accuracy_drop"),
        ({"max_cost": 0}, "max_cost must be above 0 and at most 1.*Received: 0"),
        ({"max_cost": 50}, "Received: 50"),
        ({"confidence_level": 95}, "confidence_level must be.*below 1.*Received: 95"),
        ({"confidence_level": 0.05}, "confidence_level must be above 0.5"),
    ],
)
def test_impossible_goals_are_refused(model, pictures, arguments, message):
    with pytest.raises(ValueError, match=message):
        ki.EarlyExit.calibrate(model, pictures, **arguments)
