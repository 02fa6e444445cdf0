"""What one request may cost, and how requests are batched."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on requests; each has a status of its own.

    Attributes:
        body_bytes: Of a request's body; beyond: 413.
        picture_pixels: Width times height of a picture, read from its header before it
            is decoded; beyond: 413.
        queue: Requests being answered or waiting; beyond: 503.
        seconds: For a body to arrive (then 408), and from there to the answer (504).
    """

    body_bytes: int = 32 * 2**20
    picture_pixels: int = 25_000_000
    queue: int = 64
    seconds: float = 30.0


@dataclasses.dataclass(frozen=True)
class Batching:
    """How rows of concurrent requests are put together.

    Attributes:
        rows: At most so many in a batch. A request with more is answered alone.
        micros: Wait for company at most so long where nothing is running. While a batch
            runs, the next one gathers in any case.
        threads: Batches running at once. With two, one's pictures are decoded while the
            other computes.
    """

    rows: int = 32
    micros: int = 1000
    threads: int = 2
