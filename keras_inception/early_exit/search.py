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

# The cost of an answer: which exits are used, and the index of the output that answers.
Cost = Callable[[list[bool], int], float]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Accuracy and cost of each combination of thresholds.

    Arrays have an axis for each exit, with its levels; a `cell` is a position in the
    flattened arrays.
    """

    levels: list[np.ndarray]  # the thresholds of each exit; the last one is NEVER
    shares: list[np.ndarray]  # of the pictures each output answers; main is last
    accuracy: np.ndarray
    # Share of the pictures that only main, or only the exits, get right.
    discordant: np.ndarray
    cost: np.ndarray  # mean per picture

    def thresholds(self, cell: int) -> list[float]:
        """The thresholds of a cell, one for each exit."""
        index = np.unravel_index(cell, self.accuracy.shape)
        return [float(of[i]) for of, i in zip(self.levels, index, strict=True)]

    def pareto_front(self, merit: np.ndarray | None = None) -> np.ndarray:
        """The cells of the Pareto front, in order of rising cost and merit.

        The merit of every cell defaults to its accuracy.
        """
        merit = (self.accuracy if merit is None else merit).ravel()
        order = np.lexsort((-merit, self.cost.ravel()))
        best = np.maximum.accumulate(merit[order])
        rises = np.append(True, best[1:] > best[:-1])
        return order[rises]


def evaluate_grid(
    confidences: Sequence[np.ndarray],
    correct: Sequence[np.ndarray],
    cost: Cost,
) -> Grid:
    """Evaluates every combination of thresholds on pictures with known answers.

    `confidences` holds each exit's `(pictures,)`, in network order, and `correct`
    whether each output is right, main last.
    """
    exits, pictures = len(confidences), len(correct[-1])
    count = max(2, int(CELLS ** (1 / max(exits, 1))))
    levels = [np.append(_between(values, count - 1), NEVER) for values in confidences]
    # A picture's index along an exit's axis is the number of levels that it reaches: it
    # leaves under the thresholds levels[0] to levels[index - 1].
    pairs = zip(levels, confidences, strict=True)
    reached = tuple(np.searchsorted(*pair, side="right") for pair in pairs)
    shape = tuple(map(len, levels))

    def table(weights: np.ndarray | float) -> np.ndarray:
        counts = np.zeros(shape)
        np.add.at(counts, reached, weights)
        return counts

    # Counts and costs are whole numbers, so that equal sums stay equal.
    shares: list[np.ndarray] = []
    hits, differs, total_cost = (np.zeros(shape) for _ in range(3))
    for answer in range(exits + 1):
        answered = _answered_at(table(1.0), answer)
        shares.append(np.broadcast_to(answered / pictures, shape))
        hits += _answered_at(table(correct[answer]), answer)
        differs += _answered_at(table(correct[answer] != correct[-1]), answer)
        total_cost += answered * _cost_of_answer(shape, answer, cost)
    return Grid(
        levels, shares, hits / pictures, differs / pictures, total_cost / pictures
    )


def _between(values: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` thresholds: the least value, and points halfway between neighbors.

    Confidences computed in another batch size differ by rounding. A threshold close to
    one of them would let other pictures leave than those that were counted.
    """
    fractions = np.linspace(0, 1, count)
    chosen = np.unique(np.quantile(values, fractions, method="nearest"))
    known = np.unique(values)
    above = np.searchsorted(known, chosen)
    lower, upper = known[np.maximum(above - 1, 0)], known[above]
    middle = ((lower.astype("float64") + upper) / 2).astype(values.dtype)
    # Between neighboring floats there is none; the middle is rounded to one of them.
    return np.where(middle > lower, middle, upper).astype("float64")


def _answered_at(counts: np.ndarray, answer: int) -> np.ndarray:
    """How much of `counts` one output answers, for every combination."""
    for axis in range(counts.ndim):
        # Cumulated up to a level: the pictures that do not reach it, so do not leave.
        staying = np.cumsum(counts, axis)
        everyone = np.take(staying, [-1], axis)
        if axis < answer:
            counts = staying
        else:
            counts = everyone - staying if axis == answer else everyone
    return counts


def _cost_of_answer(shape: tuple[int, ...], answer: int, cost: Cost) -> np.ndarray:
    """The cost of one output's answer, which depends only on the exits in use."""
    costs = np.empty(shape)
    for used in np.ndindex((2,) * len(shape)):
        cells = tuple(slice(-1) if is_used else slice(-1, None) for is_used in used)
        costs[cells] = cost([bool(is_used) for is_used in used], answer)
    return costs
