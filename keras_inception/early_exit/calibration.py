"""Which thresholds to use, and their effect on accuracy and computation."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_inception.costs import multiply_adds_of
from keras_inception.early_exit import bounds, search
from keras_inception.early_exit.answers import Answers
from keras_inception.early_exit.confidence import fit_temperature
from keras_inception.early_exit.points import OperatingPoint, PointTest
from keras_inception.graph import steps_to
from keras_inception.outputs import MAIN

CURVE_POINTS = 100  # at most, of a calibration's curve


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a calibration looks for: the arguments of `EarlyExit.calibrate`."""

    max_accuracy_drop: float | None = 0.005
    max_cost: float | None = None
    confidence_level: float | None = None


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The result of `EarlyExit.calibrate`.

    With a `confidence_level` one half of the pictures chooses the curve, and all
    figures are of the other half, which tests it.

    Attributes:
        examples: The number of pictures.
        max_accuracy_drop: The largest accuracy drop that was allowed, or `None`.
        chosen: The cheapest point within the allowed drop, or the most accurate one
            within the allowed cost.
        best: The most accurate point.
        main: The point without exits.
        curve: The Pareto front of multiply-adds and accuracy, from cheap to accurate,
            thinned to at most 100 points. With a tested drop rather that of
            multiply-adds and the estimated bound.
        exit_accuracy: Each output's accuracy on all pictures.
        overthought: Share of the pictures that main gets wrong and some exit right.
        temperatures: Of the exits on the curve; empty where temperatures save nothing.
        max_cost: The largest share of main's multiply-adds that was allowed, or `None`.
        confidence_level: The probability with which the drops hold, or `None`.
    """

    examples: int
    max_accuracy_drop: float | None
    chosen: OperatingPoint
    best: OperatingPoint
    main: OperatingPoint
    curve: list[OperatingPoint]
    exit_accuracy: dict[str, float]
    overthought: float
    temperatures: dict[str, float]
    max_cost: float | None = None
    confidence_level: float | None = None

    @property
    def raises_accuracy(self) -> bool:
        """Whether the chosen exits are correct more often than main alone."""
        return self.chosen.accuracy > self.main.accuracy

    @property
    def goal(self) -> Goal:
        """What the calibration looked for."""
        return Goal(self.max_accuracy_drop, self.max_cost, self.confidence_level)

    def as_dict(self) -> dict[str, object]:
        """All figures, nested, as JSON can hold them."""
        return dataclasses.asdict(self) | {"raises_accuracy": self.raises_accuracy}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Calibration":
        """The calibration that `as_dict` wrote, now or in an earlier version."""
        names = {field.name for field in dataclasses.fields(cls)} & content.keys()
        known = {name: content[name] for name in names}
        for name in ("chosen", "best", "main"):
            known[name] = OperatingPoint(**known[name])
        known["curve"] = [OperatingPoint(**point) for point in known["curve"]]
        return cls(**known)


def calibrate(
    answers: Answers, confidence: str, cost: search.Cost, goal: Goal
) -> Calibration:
    """Finds the cheapest thresholds within a drop, or the most accurate within a cost.

    Raises:
        ValueError: If no thresholds are within the cost.
    """
    choice = choose(answers, confidence, cost, goal)
    points, figures = choice.curve, answers
    if choice.test is not None:
        figures = choice.test.answers
        points = [choice.test.evaluate(point.thresholds) for point in points]
    correct = figures.correct
    accuracy = {name: float(right.mean()) for name, right in correct.items()}
    exit_correct = np.any([correct[name] for name in answers.exits], axis=0)
    return Calibration(
        examples=len(answers.labels),
        chosen=choice.point,
        best=max(points, key=lambda point: point.accuracy),
        main=OperatingPoint({}, accuracy[MAIN], _main_cost(answers, cost), {MAIN: 1.0}),
        curve=points,
        exit_accuracy=accuracy,
        overthought=float(np.mean(exit_correct & ~correct[MAIN])),
        temperatures=choice.temperatures,
        **dataclasses.asdict(goal),
    )


class Choice(NamedTuple):
    """The thresholds that reach a goal, and what they were chosen from."""

    point: OperatingPoint
    curve: list[OperatingPoint]  # from cheap to accurate, or harmless
    temperatures: dict[str, float]
    test: PointTest | None  # with a `confidence_level`


def choose(answers: Answers, confidence: str, cost: search.Cost, goal: Goal) -> Choice:
    """Chooses thresholds for a goal.

    A drop that is to hold with some probability is tested: the first half of the
    pictures orders candidates from harmless to cheap, the second half tests one after
    the other, and the last one before the first that fails is chosen. So the risk is
    that of a single test, however many candidates there are: fixed-sequence testing in
    Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052.
    """
    level, choosing, testing = goal.confidence_level, answers, answers
    if level is not None:
        halves = stratified_halves(answers.labels, seed=0)
        choosing, testing = map(answers.take, halves)
    # Temperatures are used only if they improve the choice.
    fitted = {
        name: fit_temperature(choosing.probabilities[name], choosing.labels)
        for name in answers.exits
    }
    choices = []
    for temperatures in ({}, fitted):
        front = _front(choosing, confidence, temperatures, cost, goal)
        point = _reaching(goal, front, choosing, _main_cost(answers, cost))
        kept = np.unique(np.linspace(0, len(front) - 1, CURVE_POINTS).astype(int))
        curve = [front[index] for index in kept]
        choices.append(Choice(point, curve, temperatures, None))
    choice = min(choices, key=lambda choice: _rank(choice.point, goal))
    if level is None:
        return choice
    test = PointTest(testing, confidence, choice.temperatures, cost, level)
    if goal.max_accuracy_drop is None:
        tested = test.evaluate(choice.point.thresholds)
    else:
        tested = test.cheapest_below(goal.max_accuracy_drop, choice.curve)
    return choice._replace(point=tested, test=test)


def stratified_halves(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pictures that choose thresholds, and of those that check them.

    Each half gets half of every class.
    """
    random = np.random.default_rng(seed)
    checks = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        checks[members[: round(len(members) / 2)]] = True
    return np.flatnonzero(~checks), np.flatnonzero(checks)


def answer_cost(model: keras.Model, exits: Sequence[str]) -> search.Cost:
    """Multiply-adds of an answer, including the heads of the used exits before it."""

    @functools.cache
    def cost_of(*outputs: str) -> float:
        tensors = [model.output[name] for name in outputs]
        return float(sum(map(multiply_adds_of, steps_to(*tensors))))

    def cost(used: Sequence[bool], answer: int) -> float:
        # An exit that is not used answers no picture: its cost does not matter.
        main = [MAIN] if answer == len(exits) else []
        return cost_of(*itertools.compress(exits[: answer + 1], used), *main)

    return cost


def _front(
    answers: Answers,
    confidence: str,
    temperatures: Mapping[str, float],
    cost: search.Cost,
    goal: Goal,
) -> list[OperatingPoint]:
    """The Pareto front, from cheap to accurate.

    For a test, rather from cheap to harmless: then its `largest_drop` is estimated for
    as many pictures as these.
    """
    confidences = list(answers.confidences(confidence, temperatures).values())
    grid = search.evaluate_grid(confidences, list(answers.correct.values()), cost)
    names = list(answers.probabilities)
    if goal.confidence_level is None or goal.max_accuracy_drop is None:
        return [_point(grid, names, cell) for cell in grid.pareto_front()]
    drop = answers.correct[MAIN].mean() - grid.accuracy
    bound = bounds.estimated_bound(
        drop, grid.discordant, len(answers.labels), goal.confidence_level
    )
    return [
        _point(grid, names, cell, float(bound.ravel()[cell]))
        for cell in grid.pareto_front(-bound)
    ]


def _main_cost(answers: Answers, cost: search.Cost) -> float:
    exits = len(answers.exits)
    return cost([False] * exits, exits)


def _reaching(
    goal: Goal, front: Sequence[OperatingPoint], answers: Answers, main_cost: float
) -> OperatingPoint:
    """The point of a front that reaches a goal."""
    if goal.max_accuracy_drop is None:
        assert goal.max_cost is not None
        most = goal.max_cost * main_cost
        within = [point for point in front if point.multiply_adds <= most]
        if not within:
            raise ValueError(
                f"No thresholds cost at most {goal.max_cost} of main's multiply-adds; "
                f"the cheapest cost {front[0].multiply_adds / main_cost:.3f}."
            )
        return within[-1]
    main = float(answers.correct[MAIN].mean())
    allowed = goal.max_accuracy_drop + 1e-9
    drops = (
        main - point.accuracy if point.largest_drop is None else point.largest_drop
        for point in front
    )
    pairs = zip(front, drops, strict=True)
    return next((point for point, drop in pairs if drop <= allowed), front[-1])


def _rank(point: OperatingPoint, goal: Goal) -> float:
    """Smaller is better."""
    return point.multiply_adds if goal.max_cost is None else -point.accuracy


def _point(
    grid: search.Grid, names: list[str], cell: int, largest_drop: float | None = None
) -> OperatingPoint:
    shares = {
        name: float(share.ravel()[cell])
        for name, share in zip(names, grid.shares, strict=True)
    }
    thresholds = dict(zip(names[:-1], grid.thresholds(cell), strict=True))
    return OperatingPoint(
        # An exit where no picture leaves is not computed.
        {name: level for name, level in thresholds.items() if shares[name]},
        float(grid.accuracy.ravel()[cell]),
        float(grid.cost.ravel()[cell]),
        {name: share for name, share in shares.items() if share},
        largest_drop,
    )
