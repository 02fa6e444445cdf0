"""Closes connections that are idle, whose request never ends or answer is not read."""

import asyncio
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Seconds that TF Serving's HTTP server (libevent) waits for a client that is silent.
IDLE_SECONDS = 50
_MOST_BYTES = 64 * 1024  # of a head, or between two parts of a body, or of a trailer


class Protocol(HttpToolsProtocol):
    """Closes a connection that is idle, or whose request or answer is stuck.

    The next head must arrive, and part of the answer must be read, within uvicorn's
    `timeout_keep_alive`. uvicorn itself uses it only until the first byte after an
    answer; it bounds neither heads and trailers nor the time that they take, and keeps
    an answer for as long as the client does not read it.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None
    _in_head = False
    _bytes = 0  # since the last head or part of a body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this only for sockets that name TCP as their protocol, which
        # socket.create_server does not. An answer is sent as head and body; without it
        # the body waits for the client's delayed acknowledgment of the head, 40 ms.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes > _MOST_BYTES and not self.transport.is_closing():
            if self._in_head or not (self.cycle and self.cycle.response_started):
                self.send_400_response("The head of the request is too large.")
            else:
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:  # and no pipelined request follows
            self._await_head()

    def _await_head(self) -> None:
        self._stop_timer()
        self._head_timer = self.loop.call_later(self.timeout_keep_alive, self._close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _close(self) -> None:
        self.transport.close()  # once what is left of the answer has been read
        if self._answer_timer is None and self.transport.get_write_buffer_size():
            self._await_reader()

    def _await_reader(self) -> None:
        """Drops the connection if nothing of the answer is read for a while."""
        unread = self.transport.get_write_buffer_size()

        def check() -> None:
            if self.transport.get_write_buffer_size() < unread:
                self._await_reader()
            else:
                self.transport.abort()

        self._answer_timer = self.loop.call_later(self.timeout_keep_alive, check)
