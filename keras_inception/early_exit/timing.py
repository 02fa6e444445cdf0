"""What early exits save on this machine, in seconds rather than multiply-adds."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_inception.early_exit.early_exit import EarlyExit
from keras_inception.outputs import MAIN


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds per picture, measured in turns: the mean over the pictures.

    Attributes:
        batch_size: How many pictures start together.
        pictures: How many were timed.
        main: The plain main model, compiled the same way.
        early_exit: The exits at their thresholds.
        by_exit: Every picture leaving at one output, through the exits before it.
    """

    batch_size: int
    pictures: int
    main: float
    early_exit: float
    by_exit: dict[str, float]

    @property
    def speedup(self) -> float:
        """How many times as fast as the plain main model."""
        return self.main / self.early_exit


def measure(
    early_exit: EarlyExit, images, batch_sizes: Sequence[int]
) -> dict[int, Timing]:
    """Times exits beside the plain main model, and each exit by itself.

    Args:
        early_exit: The exits.
        images: Pictures like those to come: how many leave where depends on them.
        batch_sizes: How many start together; each is measured.

    Returns:
        Batch size to what was measured.
    """
    model, passed = early_exit.model, {}
    everyone_at = {}
    for name in early_exit.thresholds:
        everyone_at[name] = EarlyExit(model, passed | {name: 0.0})
        passed[name] = np.inf
    everyone_at[MAIN] = EarlyExit(model, passed)
    candidates = {"plain": EarlyExit(model, {}), "exits": early_exit, **everyone_at}
    timings = {}
    for size in batch_sizes:
        calls = {
            name: functools.partial(candidate.predict, batch_size=size)
            for name, candidate in candidates.items()
        }
        seconds = in_turns(calls, images, -(-len(images) // 4), blocks=4)
        mean = {name: of.sum() / len(images) for name, of in seconds.items()}
        by_exit = {name: mean[name] for name in everyone_at}
        timings[size] = Timing(size, len(images), mean["plain"], mean["exits"], by_exit)
    return timings


def in_turns(
    candidates: Mapping[str, Callable], images, per_call: int, blocks: int = 20
) -> dict[str, np.ndarray]:
    """Wall seconds of each candidate for each block of pictures, one after the other.

    Whatever else the machine does meets all candidates alike; the order turns round
    from block to block.

    Args:
        candidates: By name, functions of some pictures.
        images: The pictures of all blocks.
        per_call: How many pictures a candidate is called with; a block is at least one
            call.
        blocks: In how many parts the pictures are timed. Defaults to 20.
    """
    size = -(-len(images) // blocks)
    size = -(-size // per_call) * per_call
    for candidate in candidates.values():  # traces, compiles, allocates
        candidate(images[:per_call])
    seconds = {name: [] for name in candidates}
    for index, start in enumerate(range(0, len(images), size)):
        block = images[start : start + size]
        order = list(candidates) if index % 2 else list(reversed(candidates))
        for name in order:
            started = time.perf_counter()
            for first in range(0, len(block), per_call):
                candidates[name](block[first : first + per_call])
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(of) for name, of in seconds.items()}
