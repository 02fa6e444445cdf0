"""Reads the wire format of protocol buffers, as much as a Caffe model needs.

protobuf.dev/programming-guides/encoding: a message is a series of fields, each a tag
(number and wire type) and a value. What a value means is for the reader to know.
"""

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Truncated(ValueError):
    """The bytes end in the middle of a field, or are no message."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in order: number and value.

    Args:
        message: The bytes of one message.

    Yields:
        The field's number and an int (varint) or a view of its bytes (everything else:
        strings, messages, packed numbers, single floats).

    Raises:
        Truncated: If the bytes are no message.
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
            raise Truncated(f"field {number} reaches beyond the end")
        yield number, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that starts at byte `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise Truncated("the bytes end inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Truncated("a number has more than 10 bytes")
