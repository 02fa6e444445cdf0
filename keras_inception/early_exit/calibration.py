"""Choosing thresholds on held-out pictures, and what they will do."""

import dataclasses

import keras
import numpy as np

from keras_inception.early_exit import search
from keras_inception.early_exit.confidence import (
    MEASURES,
    fitted_temperature,
    tempered,
)
from keras_inception.graph import multiply_adds_by_step
from keras_inception.outputs import MAIN


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """What one choice of thresholds does to a set of pictures.

    Attributes:
        thresholds: For every exit that is used.
        accuracy: Share of right answers.
        multiply_adds: Mean per picture.
        shares: Share of the pictures that each output answers.
    """

    thresholds: dict[str, float]
    accuracy: float
    multiply_adds: float
    shares: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What `EarlyExit.calibrate` found.

    Attributes:
        examples: How many pictures it saw.
        max_accuracy_drop: What was allowed.
        chosen: The cheapest point that keeps to it.
        best: The most accurate point.
        main: Nothing leaves.
        curve: From cheap to accurate, the points that none is both cheaper and better
            than.
        exit_accuracy: Every output's accuracy on all pictures.
        overthought: Share of the pictures that main gets wrong and an exit had right.
        temperatures: Of the exits, where they made the choice cheaper, else empty.
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
        """Whether the chosen exits are more often right than main alone."""
        return self.chosen.accuracy > self.main.accuracy

    def as_dict(self) -> dict:
        """For JSON."""
        return dataclasses.asdict(self) | {"raises_accuracy": self.raises_accuracy}


def calibrate(
    model: keras.Model,
    exits: list[str],
    probabilities: dict[str, np.ndarray],
    labels: np.ndarray,
    *,
    max_accuracy_drop: float,
    confidence: str,
) -> Calibration:
    """Finds the thresholds with the least multiply-adds for an allowed drop.

    Args:
        model: Whose multiply-adds count.
        exits: The outputs that may answer early, in network order.
        probabilities: Every output's, `(pictures, classes)`.
        labels: Class indices `(pictures,)`.
        max_accuracy_drop: What the accuracy may lose against main's, 0.005 for half a
            point.
        confidence: A key of `MEASURES`.
    """
    names = [*exits, MAIN]
    right = {name: probabilities[name].argmax(-1) == labels for name in names}
    cost = _CostOfAnswer(model, names)
    fitted = {name: fitted_temperature(probabilities[name], labels) for name in exits}
    choices = []
    for temperatures in ({}, fitted):
        sure = [
            MEASURES[confidence](
                tempered(probabilities[name], temperatures.get(name, 1.0))
            )
            for name in exits
        ]
        grid = search.every_combination(sure, [right[n] for n in names], cost)
        curve = [_point(grid, names, cell) for cell in search.front(grid)]
        least = right[MAIN].mean() - max_accuracy_drop - 1e-9
        chosen = next(point for point in curve if point.accuracy >= least)
        choices.append((chosen, curve, temperatures))
    # the plain confidences, unless the tempered ones are cheaper
    chosen, curve, temperatures = min(choices, key=lambda c: c[0].multiply_adds)
    early = np.any([right[name] for name in exits], axis=0)
    return Calibration(
        examples=len(labels),
        max_accuracy_drop=max_accuracy_drop,
        chosen=chosen,
        best=curve[-1],
        main=OperatingPoint(
            {}, float(right[MAIN].mean()), cost([False] * len(exits), -1), {MAIN: 1.0}
        ),
        curve=_thinned(curve),
        exit_accuracy={name: float(right[name].mean()) for name in names},
        overthought=float(np.mean(early & ~right[MAIN])),
        temperatures={
            name: temperatures[name] for name in chosen.thresholds if temperatures
        },
    )


def halves(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pictures that choose and of those that check.

    Args:
        labels: Class indices `(pictures,)`; half of each class is on either side.
        seed: Chooses which.
    """
    random = np.random.default_rng(seed)
    checks = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        checks[members[: round(len(members) / 2)]] = True
    return np.flatnonzero(~checks), np.flatnonzero(checks)


class _CostOfAnswer:
    """Multiply-adds up to an answer, with the heads of the used exits on the way."""

    def __init__(self, model, names):
        self.model, self.names, self.known = model, names, {}

    def __call__(self, used: list[bool], answer: int) -> float:
        *exits, main = self.names
        answer = answer % len(self.names)
        passed = [name for name, is_used in zip(exits, used, strict=True) if is_used]
        names = (*passed, main)
        if answer < len(exits):
            # where the exit is not used, nobody leaves there at any cost
            names = tuple(name for name in passed if exits.index(name) <= answer)
        if names not in self.known:
            tensors = [self.model.output[name] for name in names]
            self.known[names] = sum(multiply_adds_by_step(self.model, *tensors))
        return float(self.known[names])


def _point(grid: search.Grid, names: list[str], cell: int) -> OperatingPoint:
    shares = {
        name: float(share.ravel()[cell])
        for name, share in zip(names, grid.shares, strict=True)
    }
    thresholds = dict(zip(names, grid.thresholds(cell), strict=False))
    return OperatingPoint(
        # an exit where nobody leaves is no exit
        {name: level for name, level in thresholds.items() if shares[name]},
        float(grid.accuracy.ravel()[cell]),
        float(grid.cost.ravel()[cell]),
        {name: share for name, share in shares.items() if share},
    )


def _thinned(curve: list[OperatingPoint], most: int = 100) -> list[OperatingPoint]:
    keep = np.unique(np.linspace(0, len(curve) - 1, most).astype(int))
    return [curve[index] for index in keep]
