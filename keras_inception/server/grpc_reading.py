"""Reads gRPC's messages within bounds of memory and time, as `bodies` does REST's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from keras_inception.server.limits import Limits, ServingError

_MESSAGES = 8  # of the largest size, that may be held at once
_held: ContextVar[contextlib.ExitStack] = ContextVar("held")  # by this task's request


def hold_on() -> Callable[[], None]:
    """Keeps counting the message of this task's request until the result is called.

    Otherwise it counts as held until the request is answered. A thread may use it
    longer, after DEADLINE_EXCEEDED or when the client has left.
    """
    return _held.get().pop_all().close


class Reading(grpc.aio.ServerInterceptor):
    """Reads at most `Limits.queue` messages at a time, and limits the bytes held.

    gRPC reads the message of a request before it calls the server. So each method is
    registered as one that takes a stream, whose first message is read here. Clients see
    no difference.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.queue)
        self._bytes = 0

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def answer(
            messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext
        ) -> Message:
            with contextlib.ExitStack() as held:
                try:
                    request = handler.request_deserializer(
                        await self._read(messages, held)
                    )
                except DecodeError:
                    code = grpc.StatusCode.INVALID_ARGUMENT
                    await context.abort(code, f"Not a message of {details.method}")
                except ServingError as error:
                    await context.abort(error.code, str(error))
                _held.set(held)
                return await handler.unary_unary(request, context)

        return grpc.stream_unary_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )

    async def _read(
        self, messages: AsyncIterator[bytes], held: contextlib.ExitStack
    ) -> bytes:
        """The message, which counts until `held` is closed."""
        seconds = self._limits.seconds
        try:
            async with asyncio.timeout(seconds), self._turns:
                message = await anext(messages, None)
        except TimeoutError:
            raise ServingError(
                f"The message did not arrive within {seconds:g} seconds", 408
            ) from None
        if message is None:
            raise ServingError("The request has no message")
        size = len(message)
        if self._bytes + size > _MESSAGES * self._limits.message_bytes:
            raise ServingError(
                "The messages of the requests in progress are too large. Try again", 413
            )
        self._bytes += size
        held.callback(self._release, size)
        return message

    def _release(self, size: int) -> None:
        self._bytes -= size
