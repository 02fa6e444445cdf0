"""Seconds per picture with early exits, compared with the main output alone."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_inception.early_exit.early_exit import EarlyExit
from keras_inception.outputs import MAIN

_ALONE, _EARLY = "main alone", "early exits"
_REQUESTS = 50  # at least, for percentiles


class Latency(NamedTuple):
    """Seconds from request to answer: the median, the 95th and the 99th percentile."""

    p50: float
    p95: float
    p99: float


@dataclasses.dataclass(frozen=True)
class Timing:
    """Mean seconds per picture, and seconds per request, measured in alternation."""

    batch_size: int
    pictures: int
    main: float  # the main output alone, compiled the same way
    early_exit: float  # the exits at their thresholds
    by_output: dict[str, float]  # if it answered all pictures, after the exits before
    main_latency: Latency  # of a request of `batch_size` pictures
    early_exit_latency: Latency

    @property
    def speedup(self) -> float:
        """How many times as fast as the main output alone."""
        return self.main / self.early_exit


def measure_timings(
    early_exit: EarlyExit, images: np.ndarray, batch_sizes: Sequence[int]
) -> dict[int, Timing]:
    """Times early exits, main alone, and each exit by itself, by batch size.

    The pictures should be typical: the time depends on how many leave at each exit.
    """
    model = early_exit.model
    never: dict[str, float] = {}
    candidates = {_ALONE: EarlyExit(model, {}), _EARLY: early_exit}
    for name in early_exit.thresholds:
        candidates[name] = EarlyExit(model, never | {name: 0.0})
        never[name] = math.inf
    candidates[MAIN] = EarlyExit(model, never)
    timings = {}
    for size in batch_sizes:
        calls = {
            name: functools.partial(exits.predict, batch_size=size)
            for name, exits in candidates.items()
        }
        seconds = time_alternately(calls, images, -(-len(images) // 4), blocks=4)
        mean = {name: float(s.sum()) / len(images) for name, s in seconds.items()}
        alone, early = mean.pop(_ALONE), mean.pop(_EARLY)
        timings[size] = Timing(
            size, len(images), alone, early, mean, *_latencies(calls, images, size)
        )
    return timings


def time_alternately(
    candidates: Mapping[str, Callable[[np.ndarray], object]],
    images: np.ndarray,
    per_call: int,
    blocks: int = 20,
) -> dict[str, np.ndarray]:
    """Times candidates in alternation, so that other load affects all of them alike.

    All candidates take a block of pictures, in calls of `per_call`, before the next
    block. Returns each candidate's wall seconds for each block, `(blocks,)`.
    """
    size = -(-len(images) // blocks)
    size = -(-size // per_call) * per_call
    for candidate in candidates.values():  # traces, compiles, allocates
        candidate(images[:per_call])
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for start in range(0, len(images), size):
        block = images[start : start + size]
        order.reverse()
        for name in order:
            started = time.perf_counter()
            for first in range(0, len(block), per_call):
                candidates[name](block[first : first + per_call])
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(times) for name, times in seconds.items()}


def _latencies(
    calls: Mapping[str, Callable[[np.ndarray], object]], images: np.ndarray, size: int
) -> list[Latency]:
    """Times main alone and early exits, in requests of some size."""
    both = {name: calls[name] for name in (_ALONE, _EARLY)}
    repeated = np.resize(
        images, (max(len(images), _REQUESTS * size), *images.shape[1:])
    )
    requests = len(repeated) // size
    seconds = time_alternately(both, repeated[: requests * size], size, requests)
    return [
        Latency(*np.quantile(s, (0.5, 0.95, 0.99)).tolist()) for s in seconds.values()
    ]
