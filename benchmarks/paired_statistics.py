"""Paired differences, rank correlations, and what may be said of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

NOT_SHOWN = "no difference shown"


class Difference(NamedTuple):
    """A mean difference over pairs, its 95 % interval by Student's t, its p-value.

    The interval is that of other seeds on the same pictures. `low`, `high` and `p` are
    NaN for fewer than two pairs.
    """

    pairs: int
    mean: float
    low: float
    high: float
    p: float


def paired_difference(ours: Mapping, theirs: Mapping) -> Difference:
    """Compares two arms by the seeds that both have: `{seed: value}`, ours - theirs.

    >>> paired_difference({0: 2.0, 1: 4.0, 2: 9.0}, {0: 1.0, 1: 2.0})
    Difference(pairs=2, mean=1.5, low=-4.85..., high=7.85..., p=0.20...)
    """
    seeds = sorted(ours.keys() & theirs.keys())
    found = np.array([ours[seed] - theirs[seed] for seed in seeds], float)
    if len(found) < 2:
        mean = float(found.mean()) if len(found) else np.nan
        return Difference(len(found), mean, np.nan, np.nan, np.nan)
    error = found.std(ddof=1) / np.sqrt(len(found))
    if error == 0:
        mean = float(found[0])
        return Difference(len(found), mean, mean, mean, float(mean == 0))
    test = stats.ttest_1samp(found, 0.0)
    low, high = test.confidence_interval(0.95)
    mean, p = found.mean(), test.pvalue
    return Difference(len(found), float(mean), float(low), float(high), float(p))


def verdict(difference: Difference) -> str:
    """The claim that the interval allows.

    >>> verdict(Difference(5, 0.02, 0.01, 0.03, 0.004))
    'more'
    >>> verdict(Difference(5, 0.02, -0.01, 0.05, 0.1))
    'no difference shown'
    """
    if difference.low > 0:
        return "more"
    if difference.high < 0:
        return "less"
    return NOT_SHOWN if difference.pairs > 1 else "too few seeds"


def hold_together(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several differences are shown all at once, by Holm's procedure.

    With probability 1 - `level` none of those is an accident. NaN is never shown.

    >>> hold_together([0.001, 0.02, 0.04, 0.3])
    [True, False, False, False]
    """
    tested = np.flatnonzero(~np.isnan(p_values))
    shown = [False] * len(p_values)
    order = sorted(tested, key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(order) - rank):
            break
        shown[index] = True
    return shown


class Correlation(NamedTuple):
    """Spearman's rank correlation over settings, with a 95 % interval.

    The interval is Bonett and Wright's (Psychometrika 65, 2000), which takes the
    settings for independent; NaN for fewer than five.
    """

    independent: int
    rho: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """The claim that the interval allows."""
        if self.low > 0:
            return "the more, the more it helps"
        if self.high < 0:
            return "the more, the less it helps"
        return "no correlation shown" if self.low < 0 else "too few settings"


def rank_correlation(
    x: Sequence[float], y: Sequence[float], independent: int | None = None
) -> Correlation:
    """Correlates pairs of numbers by rank.

    `independent` says how many pairs they are worth, if not as many as there are.

    >>> rank_correlation([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]).rho
    0.82...
    """
    count = len(x) if independent is None else independent
    if count < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return Correlation(count, np.nan, np.nan, np.nan)
    rho = float(stats.spearmanr(x, y).statistic)
    if count < 5:
        return Correlation(count, rho, np.nan, np.nan)
    reach = 1.96 * np.sqrt((1 + rho**2 / 2) / (count - 3))
    z = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    low, high = np.tanh([z - reach, z + reach])
    return Correlation(count, rho, float(low), float(high))
