"""Connections that stay open, and heads of requests that never end."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Seconds that TF Serving's HTTP server (libevent) waits for a client that is silent.
IDLE_SECONDS = 50
_MOST_HEAD_BYTES = 64 * 1024


class Protocol(HttpToolsProtocol):
    """Closes a connection whose next head does not arrive, or is too large.

    The time is uvicorn's `timeout_keep_alive`. uvicorn itself uses it only until the
    first byte after an answer, and bounds neither the head of a request nor the time
    that it takes.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if was_in_head else 0
        if self._in_head and self._head_bytes > _MOST_HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:  # and no pipelined request follows
            self._await_head()

    def _await_head(self) -> None:
        self._stop_timer()
        self._head_timer = self.loop.call_later(
            self.timeout_keep_alive, self.transport.close
        )

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
