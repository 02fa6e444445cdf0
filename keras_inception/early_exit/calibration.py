"""Which thresholds to use, and their effect on accuracy and computation."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_inception.early_exit import search
from keras_inception.early_exit.confidence import MEASURES, fit_temperature, tempered
from keras_inception.graph import multiply_adds_by_step
from keras_inception.outputs import MAIN

CURVE_POINTS = 100  # at most, of a calibration's curve


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """The effect of one choice of thresholds on the calibration pictures.

    Attributes:
        thresholds: Of the exits that are used.
        accuracy: Share of correct answers.
        multiply_adds: Mean per picture.
        shares: Share of the pictures that each output answers.
    """

    thresholds: dict[str, float]
    accuracy: float
    multiply_adds: float
    shares: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The result of `EarlyExit.calibrate`.

    Attributes:
        examples: The number of pictures.
        max_accuracy_drop: The largest accuracy drop that was allowed.
        chosen: The cheapest point within the allowed drop.
        best: The most accurate point.
        main: The point without exits.
        curve: The Pareto front of multiply-adds and accuracy, from cheap to accurate,
            thinned to at most 100 points.
        exit_accuracy: Each output's accuracy on all pictures.
        overthought: Share of the pictures that main gets wrong and some exit right.
        temperatures: Of the chosen exits; empty where temperatures save nothing.
    """

    examples: int
    max_accuracy_drop: float
    chosen: OperatingPoint
    best: OperatingPoint
    main: OperatingPoint
    curve: list[OperatingPoint]
    exit_accuracy: dict[str, float]
    overthought: float
    temperatures: dict[str, float]

    @property
    def raises_accuracy(self) -> bool:
        """Whether the chosen exits are correct more often than main alone."""
        return self.chosen.accuracy > self.main.accuracy

    def as_dict(self) -> dict[str, object]:
        """All figures, nested, as JSON can hold them."""
        return dataclasses.asdict(self) | {"raises_accuracy": self.raises_accuracy}


def calibrate(
    model: keras.Model,
    exits: Sequence[str],
    probabilities: Mapping[str, np.ndarray],
    labels: np.ndarray,
    *,
    max_accuracy_drop: float,
    confidence: str,
) -> Calibration:
    """Finds the thresholds with the fewest multiply-adds for an allowed drop.

    Args:
        model: The model whose multiply-adds are counted.
        exits: The outputs that may answer early, in network order.
        probabilities: By output, the exits' and main's: `(pictures, classes)`.
        labels: Class indices `(pictures,)`.
        max_accuracy_drop: As in `EarlyExit.calibrate`.
        confidence: A key of `MEASURES`.
    """
    names = [*exits, MAIN]
    correct = {name: probabilities[name].argmax(-1) == labels for name in names}
    accuracy = {name: float(correct[name].mean()) for name in names}
    cost = _AnswerCost(model, exits)

    def trade_off(temperatures: Mapping[str, float]) -> list[OperatingPoint]:
        answers = [tempered(probabilities[n], temperatures.get(n, 1.0)) for n in exits]
        confidences = list(map(MEASURES[confidence], answers))
        grid = search.evaluate_grid(confidences, list(correct.values()), cost)
        return [_point(grid, names, cell) for cell in grid.pareto_front()]

    def cheapest(curve: list[OperatingPoint]) -> OperatingPoint:
        least = accuracy[MAIN] - max_accuracy_drop - 1e-9
        return next(point for point in curve if point.accuracy >= least)

    # Temperatures are used only if they make the choice cheaper.
    curve, temperatures = trade_off({}), dict[str, float]()
    fitted = {name: fit_temperature(probabilities[name], labels) for name in exits}
    tempered_curve = trade_off(fitted)
    if cheapest(tempered_curve).multiply_adds < cheapest(curve).multiply_adds:
        curve, temperatures = tempered_curve, fitted
    chosen = cheapest(curve)
    some_exit_correct = np.any([correct[name] for name in exits], axis=0)
    main_cost = cost([False] * len(exits), len(exits))
    return Calibration(
        examples=len(labels),
        max_accuracy_drop=max_accuracy_drop,
        chosen=chosen,
        best=curve[-1],
        main=OperatingPoint({}, accuracy[MAIN], main_cost, {MAIN: 1.0}),
        curve=_thinned(curve),
        exit_accuracy=accuracy,
        overthought=float(np.mean(some_exit_correct & ~correct[MAIN])),
        temperatures={n: temperatures[n] for n in chosen.thresholds if temperatures},
    )


def stratified_halves(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pictures that choose thresholds, and of those that check them.

    Args:
        labels: Class indices `(pictures,)`; each half gets half of every class.
        seed: Determines the split.
    """
    random = np.random.default_rng(seed)
    checks = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        checks[members[: round(len(members) / 2)]] = True
    return np.flatnonzero(~checks), np.flatnonzero(checks)


class _AnswerCost:
    """Multiply-adds of an answer, including the heads of the used exits before it."""

    def __init__(self, model: keras.Model, exits: Sequence[str]):
        self.model, self.exits = model, exits
        self.known: dict[tuple[str, ...], float] = {}

    def __call__(self, used: Sequence[bool], answer: int) -> float:
        passed = self.exits[: answer + 1]
        computed = tuple(name for name, u in zip(passed, used, strict=False) if u)
        if answer == len(self.exits):
            computed += (MAIN,)
        # An exit that is not used answers no picture: its cost does not matter.
        if computed not in self.known:
            tensors = [self.model.output[name] for name in computed]
            counts = multiply_adds_by_step(self.model, *tensors)
            self.known[computed] = float(sum(counts))
        return self.known[computed]


def _point(grid: search.Grid, names: list[str], cell: int) -> OperatingPoint:
    shares = {
        name: float(share.ravel()[cell])
        for name, share in zip(names, grid.shares, strict=True)
    }
    thresholds = dict(zip(names[:-1], grid.thresholds(cell), strict=True))
    return OperatingPoint(
        # an exit where no picture leaves is not computed
        {name: level for name, level in thresholds.items() if shares[name]},
        float(grid.accuracy.ravel()[cell]),
        float(grid.cost.ravel()[cell]),
        {name: share for name, share in shares.items() if share},
    )


def _thinned(curve: list[OperatingPoint]) -> list[OperatingPoint]:
    keep = np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).astype(int))
    return [curve[index] for index in keep]
