"""The thresholds of early exits, and their effect on accuracy and computation."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_inception.costs import multiply_adds_of
from keras_inception.early_exit import search
from keras_inception.early_exit.answers import Answers
from keras_inception.early_exit.choosing import Goal, choose, main_alone
from keras_inception.early_exit.points import OperatingPoint
from keras_inception.graph import steps_to
from keras_inception.outputs import MAIN


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
            thinned to at most 100 points. With a `confidence_level` for an allowed
            drop, the front of multiply-adds and the estimated bound instead.
        exit_accuracy: Each output's accuracy on all pictures.
        overthought: Share of the pictures that main gets wrong and some exit right.
        temperatures: Of the exits on the curve; empty where temperatures save nothing.
        max_cost: The largest share of main's multiply-adds that was allowed, or `None`.
        confidence_level: The probability with which the drops hold, or `None`.
        expected_drop: With an allowed drop and no confidence level, the drop of such
            a choice on pictures that did not choose, by cross-validation.
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
    expected_drop: float | None = None

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
        main=main_alone(figures, cost),
        curve=points,
        exit_accuracy=accuracy,
        overthought=float(np.mean(exit_correct & ~correct[MAIN])),
        temperatures=choice.temperatures,
        expected_drop=choice.expected_drop,
        **dataclasses.asdict(goal),
    )


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
