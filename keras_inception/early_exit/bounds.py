"""How much less accurate exits may be than main, beyond the pictures that were counted.

Both answer the same pictures. Of `pictures` drawn at random, the exits lose `losses`,
which only main gets right, and gain `gains`, which only they get right. Nothing is
assumed about the pictures or the model, and the bounds hold for any number of them.
"""

import functools
import math
from statistics import NormalDist

import numpy as np

_SHARES = 9  # points of the interval at which the largest probability is sought
# Outcomes farther from the mean than 8 standard deviations plus 16 are negligible.
_SIGMAS, _MORE = 8, 16


@functools.lru_cache(maxsize=10_000)
def drop_is_below(
    allowed: float, losses: int, gains: int, pictures: int, level: float
) -> bool:
    """Tests that the expected drop of accuracy is below `allowed`.

    If it is not, the answer is yes with a probability of at most `1 - level`.

    This is an exact test of a difference of paired shares, by the statistic `(losses -
    gains - pictures * allowed) / sqrt(losses + gains + 1)`. Its distribution depends on
    the share of pictures that are lost or gained as well, so the largest probability
    within an exact interval for that share counts, and the interval's own error is
    subtracted (Berger & Boos 1994).
    """
    risk, doubt = 1 - level, (1 - level) / 100
    low, high = share_interval(losses + gains, pictures, 1 - doubt)
    least = max(low, abs(allowed), 1e-9)
    if high < least:  # a drop of `allowed` would change more answers
        return allowed > 0
    statistic = losses - gains - pictures * allowed
    statistic /= math.sqrt(losses + gains + 1)
    return all(
        _tail(statistic, pictures, allowed, share) <= risk - doubt
        for share in np.linspace(high, least, _SHARES)
    )


def largest_drop(losses: int, gains: int, pictures: int, level: float) -> float:
    """The smallest drop that `drop_is_below` accepts: an upper confidence bound."""
    low, high = (losses - gains) / pictures, 1.0
    step = 2 / pictures
    while low + step < high:  # the bound is near
        if drop_is_below(low + step, losses, gains, pictures, level):
            high = low + step
        else:
            low, step = low + step, 2 * step
    while high - low > 0.05 / pictures:
        middle = (low + high) / 2
        if drop_is_below(middle, losses, gains, pictures, level):
            high = middle
        else:
            low = middle
    return high


def estimated_bound(
    drop: np.ndarray, share: np.ndarray, pictures: int, level: float
) -> np.ndarray:
    """Estimates `largest_drop` for this many pictures, by the normal distribution.

    `share` is that of the pictures that are lost or gained.
    """
    quantile = NormalDist().inv_cdf(level)
    return drop + quantile * np.sqrt((share + 1 / pictures) / pictures)


@functools.lru_cache(maxsize=64)
def share_interval(hits: int, trials: int, level: float) -> tuple[float, float]:
    """The exact interval of a share (Clopper & Pearson 1934)."""
    rest = (1 - level) / 2
    counts = np.arange(trials + 1)

    def share_where(probability: float, hits: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            at_most = np.exp(_log_binomial(counts[: hits + 1], trials, middle)).sum()
            low, high = (middle, high) if at_most > probability else (low, middle)
        return (low + high) / 2

    low = share_where(1 - rest, hits - 1) if hits else 0.0
    high = share_where(rest, hits) if hits < trials else 1.0
    return low, high


def _tail(statistic: float, pictures: int, drop: float, share: float) -> float:
    """The probability that the statistic of `drop_is_below` is at most `statistic`.

    `drop` is the expected drop, `share` that of the pictures that are lost or gained.
    """
    share = min(share, 1 - 1e-12)
    lost = min(max((1 + drop / share) / 2, 1e-12), 1 - 1e-12)  # of those
    spread = _SIGMAS * math.sqrt(pictures * share) + _MORE
    middle = pictures * share
    first, last = max(0, int(middle - spread)), min(pictures, int(middle + spread))
    changed = np.arange(first, last + 1)
    most = (changed + pictures * drop + statistic * np.sqrt(changed + 1)) / 2
    spread = _SIGMAS * math.sqrt(last * lost * (1 - lost)) + _MORE
    start = np.maximum(0, changed * lost - spread).astype(int)
    losses = start[:, None] + np.arange(int(2 * spread) + 2)
    counts = (losses <= most[:, None] + 1e-9) & (losses <= changed[:, None])
    within = np.minimum(losses, changed[:, None])
    logs = _log_binomial(within, changed[:, None], lost)
    probability = np.exp(logs, where=counts, out=np.zeros(logs.shape)).sum(-1)
    of_changed = np.exp(_log_binomial(changed, pictures, share))
    return float(of_changed @ probability + 1 - of_changed.sum())


def _log_binomial(hits: np.ndarray, trials: np.ndarray | int, share: float):
    """The logarithm of the probability of exactly `hits` hits."""
    logs = _log_factorials(int(np.max(trials)))
    ways = logs[trials] - logs[hits] - logs[trials - hits]
    return ways + hits * math.log(share) + (trials - hits) * math.log1p(-share)


@functools.lru_cache(maxsize=8)
def _log_factorials(largest: int) -> np.ndarray:
    return np.append(0.0, np.cumsum(np.log(np.arange(1, largest + 1))))
