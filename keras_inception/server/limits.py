"""Limits on one request, and how requests are batched."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits on requests; exceeding each one has its own HTTP status.

    Attributes:
        body_bytes: Largest body of a request; beyond it 413.
        picture_pixels: Largest width times height of a picture, read from its header
            before it is decoded; beyond it 413.
        queue: Most requests that are in progress or waiting; beyond it 503.
        seconds: Time for a body to arrive (then 408), and from there to the answer
            (then 504).
    """

    body_bytes: int = 32 * 2**20
    picture_pixels: int = 25_000_000
    queue: int = 64
    seconds: float = 30.0


@dataclasses.dataclass(frozen=True)
class Batching:
    """How rows of concurrent requests are combined into batches.

    Attributes:
        rows: Most rows in a batch. A request with more is answered alone.
        micros: Microseconds that an idle server waits for more requests. While a batch
            runs, the next one gathers in any case.
        threads: Batches that run at once. With two, one decodes its pictures while the
            other computes.
    """

    rows: int = 32
    micros: int = 1000
    threads: int = 2
