"""Seconds per picture with early exits, beside the main output alone."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_inception.early_exit.early_exit import EarlyExit
from keras_inception.outputs import MAIN


@dataclasses.dataclass(frozen=True)
class Timing:
    """Mean seconds per picture, measured in alternation.

    Attributes:
        batch_size: Pictures computed together.
        pictures: How many were timed.
        main: Of the main output alone, compiled the same way.
        early_exit: Of the exits at their thresholds.
        by_output: If that output answered every picture, after the exits before it.
    """

    batch_size: int
    pictures: int
    main: float
    early_exit: float
    by_output: dict[str, float]

    @property
    def speedup(self) -> float:
        """How many times as fast as the main output alone."""
        return self.main / self.early_exit


def measure_timings(
    early_exit: EarlyExit, images: np.ndarray, batch_sizes: Sequence[int]
) -> dict[int, Timing]:
    """Times early exits, the main output alone, and each exit by itself.

    Args:
        early_exit: The exits.
        images: Typical pictures: the time depends on how many leave at each exit.
        batch_sizes: The keys of the result.
    """
    model = early_exit.model
    never: dict[str, float] = {}
    candidates = {"main alone": EarlyExit(model, {}), "early exits": early_exit}
    for name in early_exit.thresholds:
        candidates[name] = EarlyExit(model, never | {name: 0.0})
        never[name] = math.inf
    candidates[MAIN] = EarlyExit(model, never)
    timings = {}
    for size in batch_sizes:
        calls = {
            name: functools.partial(candidate.predict, batch_size=size)
            for name, candidate in candidates.items()
        }
        seconds = time_alternately(calls, images, -(-len(images) // 4), blocks=4)
        mean = {name: float(s.sum()) / len(images) for name, s in seconds.items()}
        main, exits = mean.pop("main alone"), mean.pop("early exits")
        timings[size] = Timing(size, len(images), main, exits, by_output=mean)
    return timings


def time_alternately(
    candidates: Mapping[str, Callable[[np.ndarray], object]],
    images: np.ndarray,
    per_call: int,
    blocks: int = 20,
) -> dict[str, np.ndarray]:
    """Times candidates in alternation, so that other load affects all of them alike.

    Args:
        candidates: By name, functions of some pictures.
        images: The pictures.
        per_call: How many pictures a candidate is called with.
        blocks: All candidates take a block of pictures before the next block. Defaults
            to 20 blocks; a block is at least one call.

    Returns:
        Each candidate's wall seconds for each block, `(blocks,)`.
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
