"""Degrading by depth: the more requests wait, the earlier the network answers.

A version with exits knows from its calibration what each choice of thresholds costs and
how accurate it is. Level 0 answers as the request asks; level 1 answers at the exits
that were exported; each further level at a cheaper point of the calibration's curve.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_inception.early_exit import Calibration, read_exits
from keras_inception.export.saved_model import EXITS_FILE
from keras_inception.export.sessions import EXIT, THRESHOLDS
from keras_inception.export.signatures import (
    DEFAULT,
    EARLY_EXIT,
    EARLY_EXIT_AT,
    ON_FILES,
)
from keras_inception.outputs import MAIN
from keras_inception.server.batch_queue import Arrays
from keras_inception.server.saved_models import Function

LEVELS = 8  # the most of them
# Shares of the longest queue: up to FEW, answers are at level 0; from MANY on, they are
# at the highest level.
FEW, MANY = 0.25, 0.75

# The signatures that use the exported thresholds; and, for each signature that can be
# answered earlier, the one that answers it at other thresholds.
AS_EXPORTED = (EARLY_EXIT, ON_FILES[EARLY_EXIT])
_AT = {
    **dict.fromkeys((DEFAULT, EARLY_EXIT), EARLY_EXIT_AT),
    **dict.fromkeys((ON_FILES[DEFAULT], ON_FILES[EARLY_EXIT]), ON_FILES[EARLY_EXIT_AT]),
}
LEVEL = "level"  # each row's, an output beside the signature's own
LEVEL_HEADER = "Early-Exit-Level"  # of an answer above level 0


class Depth:
    """Chooses the level for a batch when it starts.

    Nothing is remembered from batch to batch: earlier answers shorten the queue, and a
    shorter queue gives later answers, until both agree.

    Args:
        load: The requests in progress, as a share of the most that there can be.
    """

    def __init__(self, load: Callable[[], float]):
        self._load = load

    def level(self, highest: int) -> int:
        """The level at the current load, from 0 to `highest`."""
        share = (self._load() - FEW) / (MANY - FEW)
        return min(max(math.ceil(share * highest), 0), highest)


class Exits(NamedTuple):
    """The exits of a version.

    Attributes:
        thresholds: Of each level from 1, float32 `(exits,)`.
        shares: The share of pictures that each output answered when the exported
            thresholds were calibrated; empty if they were not.
    """

    thresholds: list[np.ndarray]
    shares: dict[str, float]


def exits_of(version: Path) -> Exits:
    """The exits that were exported with a version; without any, no levels.

    Raises:
        ValueError: If the file with the exits can't be used.
    """
    paths = (version / EXITS_FILE, version / EXITS_FILE.name)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return Exits([], {})
    thresholds, calibration = read_exits(path)
    levels = [thresholds] if thresholds else []
    if thresholds and calibration is not None:
        levels += _cheaper(calibration, set(thresholds))
    rows = [
        np.array([level.get(name, np.inf) for name in thresholds], "float32")
        for level in levels
    ]
    return Exits(rows, dict(calibration.chosen.shares) if calibration else {})


def _cheaper(calibration: Calibration, exits: set[str]) -> list[dict[str, float]]:
    """Points of the curve at equal steps from the chosen cost to the least."""
    most = calibration.chosen.multiply_adds
    points = {
        point.multiply_adds: point.thresholds
        for point in calibration.curve
        if point.multiply_adds < most and point.thresholds.keys() <= exits
    }
    if not points:
        return []
    costs = np.array([*points])
    steps = np.linspace(most, costs.min(), LEVELS)[1:]
    nearest = dict.fromkeys(float(costs[abs(costs - s).argmin()]) for s in steps)
    return [points[cost] for cost in nearest]


def by_load(
    functions: Mapping[str, Function], depth: Depth, levels: Sequence[np.ndarray]
) -> dict[str, Function]:
    """Functions of the same signatures that answer at the level of the load.

    They return `exit` and `LEVEL` as well. Signatures that can't be answered earlier
    are left out.
    """

    def answering(as_asked: Function, at: Function) -> Function:
        def answer(arrays: Arrays) -> Arrays:
            (rows,) = (array.shape[:1] for array in arrays.values())
            level = depth.level(len(levels)) if rows else 0
            if level == 0:
                # Parts of a request may have several levels; they can be joined if all
                # have the same outputs.
                outputs = {EXIT: np.full(rows, MAIN.encode()), **as_asked(arrays)}
            else:
                thresholds = np.tile(levels[level - 1], (*rows, 1))
                outputs = at({**arrays, THRESHOLDS: thresholds})
            return {**outputs, LEVEL: np.full(rows, level)}

        return answer

    return {
        name: answering(functions[name], functions[at])
        for name, at in _AT.items()
        if name in functions and at in functions
    }
