"""The choice of thresholds: the cheapest for a drop, the most accurate for a cost."""

import dataclasses
import functools
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from keras_inception.early_exit import bounds, search
from keras_inception.early_exit.answers import Answers
from keras_inception.early_exit.confidence import fit_temperature
from keras_inception.early_exit.points import Judge, OperatingPoint, PointTest
from keras_inception.outputs import MAIN

CURVE_POINTS = 100  # at most, of a calibration's curve
_MARGINS = np.linspace(0, 3, 13)  # in standard errors, that halves of the pictures try
_DIVISIONS = 4  # into halves


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a calibration looks for: the arguments of `EarlyExit.calibrate`."""

    max_accuracy_drop: float | None = 0.005
    max_cost: float | None = None
    confidence_level: float | None = None


class Choice(NamedTuple):
    """The thresholds that reach a goal, and what they were chosen from."""

    point: OperatingPoint
    curve: list[OperatingPoint]  # from cheap to accurate, or harmless
    temperatures: dict[str, float]
    test: PointTest | None = None  # with a `confidence_level`
    expected_drop: float | None = None  # with an allowed drop and no such level


def choose(answers: Answers, confidence: str, cost: search.Cost, goal: Goal) -> Choice:
    """Chooses thresholds for a goal.

    An allowed drop means the drop on other pictures, which `_confirmed` estimates. If
    it is to hold with a given probability it is tested: the first half of the pictures
    orders candidates from harmless to cheap, the second half tests one after the other,
    and the last one before the first that fails is chosen. So the risk is that of a
    single test, however many candidates there are: fixed-sequence testing in
    Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052.

    Raises:
        ValueError: If no thresholds are within the cost.
    """
    level, choosing, testing = goal.confidence_level, answers, answers
    if level is not None:
        choosing, testing = answers.halves()
    choices = []
    for tempered in (False, True):  # temperatures are used only if that pays
        front = _Front(choosing, confidence, tempered, cost, goal)
        if goal.max_accuracy_drop is None:
            point, expected = front.most_accurate_within_cost(), None
        elif level is None:
            point, expected = _confirmed(front)
        else:
            margin = NormalDist().inv_cdf(level)
            point = front.cheapest_within(goal.max_accuracy_drop, margin)
            expected = None
        kept = np.unique(
            np.linspace(0, len(front.points) - 1, CURVE_POINTS).astype(int)
        )
        curve = [front.points[index] for index in kept]
        choices.append(Choice(point, curve, front.temperatures, None, expected))
    choice = min(choices, key=lambda choice: _rank(choice.point, goal))
    if level is None:
        return choice
    test = PointTest(testing, confidence, choice.temperatures, cost, level)
    if goal.max_accuracy_drop is None:
        tested = test.evaluate(choice.point.thresholds)
    else:
        tested = test.cheapest_below(goal.max_accuracy_drop, choice.curve)
    return choice._replace(point=tested, test=test)


def main_alone(answers: Answers, cost: search.Cost) -> OperatingPoint:
    """The point without exits."""
    exits = len(answers.exits)
    accuracy = float(answers.correct[MAIN].mean())
    return OperatingPoint({}, accuracy, cost([False] * exits, exits), {MAIN: 1.0})


@dataclasses.dataclass
class _Front:
    """The Pareto front on some pictures, from cheap to accurate.

    For a test it leads from cheap to harmless instead: to the least estimated bound.
    """

    answers: Answers
    confidence: str
    tempered: bool
    cost: search.Cost
    goal: Goal

    def __post_init__(self) -> None:
        answers = self.answers
        exits = answers.exits if self.tempered else ()
        self.temperatures = {
            name: fit_temperature(answers.probabilities[name], answers.labels)
            for name in exits
        }
        confidences = answers.confidences(self.confidence, self.temperatures)
        correct = list(answers.correct.values())
        self.main = main_alone(answers, self.cost)
        self._grid = search.evaluate_grid(
            list(confidences.values()), correct, self.cost
        )
        self._drop = self.main.accuracy - self._grid.accuracy

    @functools.cached_property
    def points(self) -> list[OperatingPoint]:
        """All points of the front."""
        goal, merit = self.goal, None
        if goal.confidence_level is not None and goal.max_accuracy_drop is not None:
            pictures, share = len(self.answers.labels), self._grid.discordant
            merit = -bounds.estimated_bound(
                self._drop, share, pictures, goal.confidence_level
            )
        return [self._point(cell) for cell in self._grid.pareto_front(merit)]

    def of(self, answers: Answers) -> "_Front":
        """The front on other pictures."""
        return dataclasses.replace(self, answers=answers)

    def cheapest_within(self, drop: float, errors: float) -> OperatingPoint:
        """The cheapest point that stays below a drop by so many standard errors.

        The error is that of a drop counted on these pictures: it comes from those that
        exits and main answer differently.
        """
        spread = np.sqrt(self._grid.discordant / len(self.answers.labels))
        within = self._drop + errors * spread <= drop + 1e-9
        cost = np.where(within, self._grid.cost, np.inf).ravel()
        cells = np.flatnonzero(cost == cost.min())
        return self._point(cells[self._drop.ravel()[cells].argmin()])

    def most_accurate_within_cost(self) -> OperatingPoint:
        """The last point within the goal's cost."""
        assert self.goal.max_cost is not None
        whole = self.main.multiply_adds
        most = self.goal.max_cost * whole
        within = [point for point in self.points if point.multiply_adds <= most]
        if not within:
            raise ValueError(
                f"No thresholds cost at most {self.goal.max_cost} of main's "
                "multiply-adds; the cheapest cost "
                f"{self.points[0].multiply_adds / whole:.3f}."
            )
        return within[-1]

    def _point(self, cell: int) -> OperatingPoint:
        names, grid = list(self.answers.probabilities), self._grid
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
        )


def _confirmed(front: _Front) -> tuple[OperatingPoint, float]:
    """The cheapest point within the allowed drop on other pictures; that drop.

    The cheapest of very many points owes something to luck: on other pictures it loses
    more than on those that chose it. So a point must stay below the allowed drop by a
    margin, in standard errors. Growing margins are tried on halves of the pictures: one
    half chooses, the other judges, and both ways count, for several divisions. The
    first margin whose choices lose no more than is allowed is used with all pictures.
    If there is none, there are no exits.
    """
    allowed = front.goal.max_accuracy_drop
    assert allowed is not None
    judged = []
    for seed in range(_DIVISIONS):
        halves = front.answers.halves(seed)
        for chooses, judges in (halves, halves[::-1]):
            fitted = front.of(chooses)
            judge = Judge(judges, front.confidence, fitted.temperatures)
            judged.append((fitted, judge))

    def drop_elsewhere(margin: float) -> float:
        lost = 0
        for fitted, judge in judged:
            point = fitted.cheapest_within(allowed, margin)
            losses, gains = judge.losses_and_gains(point.thresholds)
            lost += losses - gains
        return lost / (_DIVISIONS * len(front.answers.labels))

    for margin in _MARGINS:
        expected = drop_elsewhere(margin)
        if expected <= allowed + 1e-9:
            return front.cheapest_within(allowed, margin), expected
    return front.main, 0.0


def _rank(point: OperatingPoint, goal: Goal) -> float:
    """Smaller is better."""
    return point.multiply_adds if goal.max_cost is None else -point.accuracy
