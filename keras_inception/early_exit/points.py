"""The effect of one choice of thresholds, and a test of the accuracy that it costs."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_inception.early_exit import bounds
from keras_inception.early_exit.answers import Answers
from keras_inception.early_exit.search import Cost
from keras_inception.outputs import MAIN


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """The effect of one choice of thresholds on the calibration pictures.

    Attributes:
        thresholds: Of the exits that are used.
        accuracy: Share of correct answers.
        multiply_adds: Mean per picture.
        shares: Share of the pictures that each output answers.
        largest_drop: Upper bound of the accuracy that it costs on other pictures of
            this kind, with the probability of the `confidence_level`, or `None`.
    """

    thresholds: dict[str, float]
    accuracy: float
    multiply_adds: float
    shares: dict[str, float]
    largest_drop: float | None = None


class Judge:
    """Judges thresholds on pictures that did not choose them."""

    def __init__(
        self, answers: Answers, confidence: str, temperatures: Mapping[str, float]
    ):
        self.answers = answers
        self._confidences = answers.confidences(confidence, temperatures)
        self._correct = np.stack(list(answers.correct.values()))

    def losses_and_gains(self, thresholds: Mapping[str, float]) -> tuple[int, int]:
        """How many pictures only main gets right, and only the exits."""
        right, main = self._right(self._answered(thresholds)), self._correct[-1]
        return int((main & ~right).sum()), int((right & ~main).sum())

    def _answered(self, thresholds: Mapping[str, float]) -> np.ndarray:
        """The index of the output that answers each picture."""
        exits = self.answers.exits
        answered = np.full(len(self.answers.labels), len(exits))
        for index, name in reversed([*enumerate(exits)]):
            if name in thresholds:
                answered[self._confidences[name] >= thresholds[name]] = index
        return answered

    def _right(self, answered: np.ndarray) -> np.ndarray:
        return self._correct[answered, np.arange(len(answered))]


class PointTest(Judge):
    """Bounds the drop of thresholds on pictures that did not choose them."""

    def __init__(
        self,
        answers: Answers,
        confidence: str,
        temperatures: Mapping[str, float],
        cost: Cost,
        level: float,
    ):
        super().__init__(answers, confidence, temperatures)
        self._cost, self._level = cost, level

    def evaluate(self, thresholds: Mapping[str, float]) -> OperatingPoint:
        """The figures of some thresholds, with a bound on their drop."""
        answered = self._answered(thresholds)
        pictures, exits = len(answered), self.answers.exits
        shares = np.bincount(answered, minlength=len(exits) + 1) / pictures
        used = [name in thresholds for name in exits]
        costs = [
            share * self._cost(used, output)
            for output, share in enumerate(shares)
            if share
        ]
        losses, gains = self.losses_and_gains(thresholds)
        return OperatingPoint(
            dict(thresholds),
            float(self._right(answered).mean()),
            float(sum(costs)),
            {n: float(s) for n, s in zip([*exits, MAIN], shares, strict=True) if s},
            bounds.largest_drop(losses, gains, pictures, self._level),
        )

    def cheapest_below(
        self, allowed: float, points: Sequence[OperatingPoint]
    ) -> OperatingPoint:
        """The cheapest point before the first whose drop may be above `allowed`.

        `points` lead from cheap to harmless, and are tested from the end. Where none
        passes there are no exits, which cost nothing.
        """
        passed: Mapping[str, float] = {}
        for point in reversed(points):
            losses, gains = self.losses_and_gains(point.thresholds)
            pictures = len(self.answers.labels)
            if not bounds.drop_is_below(allowed, losses, gains, pictures, self._level):
                break
            passed = point.thresholds
        return self.evaluate(passed)
