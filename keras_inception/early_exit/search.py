"""Every combination of thresholds on a grid, evaluated at once.

Where a picture leaves, for any thresholds on the grid, depends only on how many grid
levels its confidence reaches at each exit. So the pictures are counted once, in a table
with an axis for each exit. Cumulative sums along the axes give, for all combinations,
how many leave at each exit, and how many of those are answered correctly.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

CELLS = 100_000  # of the table: 316 levels for each of two exits, 46 for each of three
NEVER = np.inf  # the threshold of an exit that is not used


@dataclasses.dataclass(frozen=True)
class Grid:
    """Accuracy and cost of each combination of thresholds.

    Arrays have an axis for each exit, with its levels; a `cell` is a position in the
    flattened arrays.

    Attributes:
        levels: The thresholds of each exit; the last one is `NEVER`.
        shares: For each output, `main` last: the share of pictures that it answers.
        accuracy: The share of correct answers.
        cost: The mean cost per picture.
    """

    levels: list[np.ndarray]
    shares: list[np.ndarray]
    accuracy: np.ndarray
    cost: np.ndarray

    def thresholds(self, cell: int) -> list[float]:
        """The thresholds of a cell, one for each exit."""
        index = np.unravel_index(cell, self.accuracy.shape)
        return [float(of[i]) for of, i in zip(self.levels, index, strict=True)]

    def pareto_front(self) -> np.ndarray:
        """The cells of the Pareto front, in order of rising cost and accuracy."""
        order = np.lexsort((-self.accuracy.ravel(), self.cost.ravel()))
        best = np.maximum.accumulate(self.accuracy.ravel()[order])
        rises = np.append(True, best[1:] > best[:-1])
        return order[rises]


def evaluate_grid(
    confidences: Sequence[np.ndarray],
    correct: Sequence[np.ndarray],
    cost: Callable[[list[bool], int], float],
) -> Grid:
    """Evaluates every combination of thresholds on pictures with known answers.

    Args:
        confidences: Each exit's confidence `(pictures,)`, exits in network order.
        correct: Whether each output is correct `(pictures,)`: the exits', then main's.
        cost: The cost of an answer, from which exits are used and the index in
            `correct` of the output that answers.
    """
    exits, pictures = len(confidences), len(correct[-1])
    count = max(2, int(CELLS ** (1 / max(exits, 1))))
    quantiles = np.linspace(0, 1, count - 1)
    levels = [
        np.append(np.unique(np.quantile(exit_, quantiles)), NEVER)
        for exit_ in confidences
    ]
    # A picture's index along an exit's axis is the number of levels that it reaches: it
    # leaves under the thresholds levels[0] to levels[index - 1].
    reached = tuple(
        np.searchsorted(*pair, side="right")
        for pair in zip(levels, confidences, strict=True)
    )
    shape = tuple(map(len, levels))

    def table(weights: np.ndarray | float) -> np.ndarray:
        counts = np.zeros(shape)
        np.add.at(counts, reached, weights)
        return counts

    # Counts and costs are whole numbers, so that equal sums stay equal.
    shares, hits, total_cost = [], np.zeros(shape), np.zeros(shape)
    for answer in range(exits + 1):
        answered = _answered_at(table(1.0), answer)
        shares.append(np.broadcast_to(answered / pictures, shape))
        hits += _answered_at(table(correct[answer]), answer)
        total_cost += answered * _cost_of_answer(shape, answer, cost)
    return Grid(levels, shares, hits / pictures, total_cost / pictures)


def _answered_at(counts: np.ndarray, answer: int) -> np.ndarray:
    """How much of `counts` one output answers, for every combination."""
    for axis in range(counts.ndim):
        # cumulated up to a level: the pictures that do not reach it, so do not leave
        staying = np.cumsum(counts, axis)
        everyone = np.take(staying, [-1], axis)
        if axis < answer:
            counts = staying
        elif axis == answer:
            counts = everyone - staying
        else:
            counts = everyone
    return counts


def _cost_of_answer(
    shape: tuple[int, ...], answer: int, cost: Callable[[list[bool], int], float]
) -> np.ndarray:
    """The cost of one output's answer: it depends on which exits are used alone."""
    costs = np.empty(shape)
    for used in np.ndindex((2,) * len(shape)):
        cells = tuple(slice(-1) if is_used else slice(-1, None) for is_used in used)
        costs[cells] = cost([bool(is_used) for is_used in used], answer)
    return costs
