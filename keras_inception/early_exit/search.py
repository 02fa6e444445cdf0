"""Every combination of thresholds on a grid, counted at once.

A picture leaves at the first exit that is sure enough of it. For thresholds on a grid
it is enough to know, for each picture and exit, between which levels of the grid its
confidence lies: the pictures are counted once in a table with an axis for every exit,
and sums along the axes give how many leave where, and how many of these are right, for
all combinations.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

CELLS = 100_000  # of the table: 316 levels for each of two exits, 46 for each of three
NEVER = np.inf  # the threshold of an exit that isn't used


@dataclasses.dataclass(frozen=True)
class Grid:
    """What follows from each combination of thresholds.

    Attributes:
        levels: Thresholds tried, for each exit; the last one is `NEVER`.
        shares: Share of pictures that each answer is taken for, `main` last: arrays
            with an axis for every exit.
        accuracy: Share of right answers, of the same shape.
        cost: Mean cost per picture, of the same shape.
    """

    levels: list[np.ndarray]
    shares: list[np.ndarray]
    accuracy: np.ndarray
    cost: np.ndarray

    def thresholds(self, cell: int) -> list[float]:
        """The thresholds at a position of the flattened arrays."""
        index = np.unravel_index(cell, self.accuracy.shape)
        return [float(of[i]) for of, i in zip(self.levels, index, strict=True)]


def every_combination(
    confidences: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
    cost: Callable[[list[bool], int], float],
) -> Grid:
    """Counts what every combination of thresholds does to held-out pictures.

    Args:
        confidences: Each exit's confidence `(pictures,)`, exits in network order.
        right: Whether each output is right `(pictures,)`, the exits' and then main's.
        cost: From which exits are used, and the number of the output that answers, to
            the cost of this answer.
    """
    exits, pictures = len(confidences), len(right[-1])
    count = max(2, int(CELLS ** (1 / max(exits, 1))))
    levels = [
        np.append(np.unique(np.quantile(of, np.linspace(0, 1, count - 1))), NEVER)
        for of in confidences
    ]
    # Position of a picture along an exit's axis: how many levels it reaches. It leaves
    # under level number t, from 0, if that is more than t.
    cells = tuple(
        np.searchsorted(of, confidence, side="right")
        for of, confidence in zip(levels, confidences, strict=True)
    )
    shape = tuple(len(of) for of in levels)

    def table(weights):
        counts = np.zeros(shape)
        np.add.at(counts, cells, weights)
        return counts

    leaving = [_leaving(table(1.0), k) for k in range(exits + 1)]
    hits = [_leaving(table(right[k]), k) for k in range(exits + 1)]
    costs = sum(leaving[k] * _cost_of_answer(shape, k, cost) for k in range(exits + 1))
    shares = [np.broadcast_to(of / pictures, shape) for of in leaving]
    return Grid(levels, shares, sum(hits) / pictures, costs / pictures)


def _leaving(counts: np.ndarray, answer: int) -> np.ndarray:
    """How much of `counts` is answered at one output, for every combination."""
    for axis in range(counts.ndim):
        stays = np.cumsum(counts, axis)  # reaches at most t levels: does not leave
        everyone = np.take(stays, [-1], axis)
        if axis < answer:
            counts = stays
        elif axis == answer:
            counts = everyone - stays
        else:
            counts = everyone
    return counts


def _cost_of_answer(shape, answer: int, cost) -> np.ndarray:
    """The cost of one output's answer, for every combination.

    It depends on which exits are used, not on their thresholds: the heads of the others
    are not computed.
    """
    costs = np.empty(shape)
    for used in np.ndindex((2,) * len(shape)):
        part = tuple(
            slice(None, -1) if is_used else slice(-1, None) for is_used in used
        )
        costs[part] = cost([bool(is_used) for is_used in used], answer)
    return costs


def front(grid: Grid) -> np.ndarray:
    """Positions of the combinations that none is both cheaper and better than.

    In order of rising cost and accuracy.
    """
    order = np.lexsort((-grid.accuracy.ravel(), grid.cost.ravel()))
    best = np.maximum.accumulate(grid.accuracy.ravel()[order])
    rises = np.append(True, best[1:] > best[:-1])
    return order[rises]
