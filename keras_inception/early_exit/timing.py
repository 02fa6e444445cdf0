"""What early exits save on this machine, in seconds rather than multiply-adds."""

import dataclasses
import time
from collections.abc import Mapping

import numpy as np

from keras_inception.early_exit.early_exit import EarlyExit
from keras_inception.supervision import MAIN


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds per picture, measured in turns.

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


def measure(early_exit: EarlyExit, images, batch_size: int) -> Timing:
    """Times exits beside the plain main model, and each exit by itself.

    Args:
        early_exit: The exits.
        images: Pictures like those to come: how many leave where depends on them.
        batch_size: How many start together.
    """
    everyone_at = {
        name: EarlyExit(
            early_exit.model,
            {other: np.inf for other in list(early_exit.thresholds)[:index]}
            | {name: 0.0},
        )
        for index, name in enumerate(early_exit.thresholds)
    }
    candidates = {"plain": EarlyExit(early_exit.model, {}), "exits": early_exit}
    seconds = in_turns(candidates | everyone_at, images, batch_size)
    mean = {name: of.sum() / len(images) for name, of in seconds.items()}
    through = dict.fromkeys(early_exit.thresholds, np.inf)
    to_the_end = in_turns(
        {MAIN: EarlyExit(early_exit.model, through)}, images, batch_size
    )
    by_exit = {name: mean[name] for name in everyone_at}
    by_exit[MAIN] = to_the_end[MAIN].sum() / len(images)
    return Timing(batch_size, len(images), mean["plain"], mean["exits"], by_exit)


def in_turns(
    candidates: Mapping[str, EarlyExit], images, batch_size: int, blocks: int = 20
) -> dict[str, np.ndarray]:
    """Wall seconds of each candidate for each block of pictures, one after the other.

    Whatever else the machine does meets all candidates alike; the order turns round
    from block to block.

    Args:
        candidates: By name.
        images: The pictures of all blocks.
        batch_size: How many start together; a block is at least one batch.
        blocks: In how many parts the pictures are timed. Defaults to 20.
    """
    size = -(-len(images) // blocks)
    size = -(-size // batch_size) * batch_size
    for candidate in candidates.values():  # traces, compiles, allocates
        candidate.predict(images[: 2 * batch_size], batch_size)
    seconds = {name: [] for name in candidates}
    for index, start in enumerate(range(0, len(images), size)):
        order = list(candidates) if index % 2 else list(reversed(candidates))
        for name in order:
            started = time.perf_counter()
            candidates[name].predict(images[start : start + size], batch_size)
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(of) for name, of in seconds.items()}
