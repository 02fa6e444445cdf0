"""Request bodies: read within limits of size and time, and uncompressed."""

import asyncio
import contextlib
import threading
import zlib
from collections.abc import Iterator

from starlette.requests import Request

from keras_inception.server import json_text
from keras_inception.server.limits import Limits, ServingError
from keras_inception.server.workers import check_time

_BODIES = 8  # of the largest size, that may be held at once
_MANY_VALUES = 100_000
_HEAVY = 2  # requests with many values, that may be answered at once


class Bodies:
    """Reads bodies, so that all requests together use a bounded amount of memory.

    Smaller bodies than the largest allowed are the rule, so `Limits.queue` of them may
    be held, but no more bytes than `8 * Limits.body_bytes` (503).
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._held = 0
        self._heavy = threading.Semaphore(_HEAVY)

    async def read(self, request: Request) -> bytes:
        """The body, unless it is too large (413) or too slow (408).

        Its bytes count as held until `release`.
        """
        limits, body = self._limits, bytearray()
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > limits.body_bytes:
            raise self._too_large()
        try:
            try:
                async with asyncio.timeout(limits.seconds):
                    async for chunk in request.stream():
                        self._hold(body, chunk)
            except TimeoutError:
                raise ServingError(
                    f"The body did not arrive within {limits.seconds:g} seconds", 408
                ) from None
        except BaseException:
            self.release(len(body))
            raise
        return bytes(body)

    def release(self, count: int) -> None:
        """Stops counting the bytes of a body to which nothing refers any longer."""
        self._held -= count

    def _hold(self, body: bytearray, chunk: bytes) -> None:
        if len(body) + len(chunk) > self._limits.body_bytes:
            raise self._too_large()
        if self._held + len(chunk) > _BODIES * self._limits.body_bytes:
            raise ServingError(
                "The bodies of the requests in progress are too large. Try again", 503
            )
        body += chunk
        self._held += len(chunk)

    @contextlib.contextmanager
    def plain(self, body: bytes, encoding: str) -> Iterator[bytes]:
        """Yields a body uncompressed; the block parses and answers it.

        A parsed list of numbers takes 20 times the memory of its text, so only two
        bodies of many values are answered at once.
        """
        if "gzip" in encoding:  # NeedUncompressGzipContent of evhttp_request.cc
            body = self._uncompressed(body)
        heavy = json_text.count_values(body) > _MANY_VALUES
        with self._heavy if heavy else contextlib.nullcontext():
            check_time()
            yield body

    def _uncompressed(self, body: bytes) -> bytes:
        most = self._limits.body_bytes
        try:
            content = zlib.decompressobj(wbits=31).decompress(body, most + 1)
        except zlib.error as error:
            raise ServingError(f"The body is not gzip: {error}") from None
        if len(content) > most:
            raise self._too_large()
        return content

    def _too_large(self) -> ServingError:
        return ServingError(
            f"The body is larger than {self._limits.body_bytes:,} bytes", 413
        )
