"""Reads the wire format of protocol buffers, as far as a Caffe model needs it.

protobuf.dev/programming-guides/encoding: a message is a series of fields, each a tag
(number and wire type) and a value. The bytes do not say what a value means.
"""

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Truncated(ValueError):
    """Raised when bytes end within a field or are not a message."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields the fields of a message in order, as number and value.

    Args:
        message: The bytes of one message.

    Yields:
        The number of the field, and an int (varint) or a view of the bytes (all other
        types: strings, messages, packed numbers, single floats).

    Raises:
        Truncated: If the bytes are not a message.
    """
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == LENGTH:
            size, at = varint(message, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise Truncated(f"unknown wire type {kind} at byte {at}")
        if number == 0 or at + size > len(message):
            raise Truncated(f"field {number} is longer than the message")
        yield number, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Returns the number that starts at byte `at`, and the index after its end."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise Truncated("the bytes end within a number")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Truncated("a number has more than 10 bytes")
