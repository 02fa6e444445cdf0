"""Reads the layers of a Caffe network from a `.caffemodel` or `.caffemodel.h5` file.

A `.caffemodel` is a protocol buffer. protobuf.dev/programming-guides/encoding: a
message is a series of fields, each a tag (number and wire type) and a value. The bytes
do not say what a value means.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

VARINT, LENGTH = 0, 2  # wire types
FIXED = {1: 8, 5: 4}  # and their bytes
# caffe.proto: the fields (name, bottom, top, blobs) of a layer, by the field of
# NetParameter that holds layers. Field 2, V1LayerParameter, is that of files from
# before the end of 2014.
LAYERS = {2: (4, 2, 3, 6), 100: (1, 3, 4, 7)}
# BlobProto
OLD_SHAPE, DATA, SHAPE, DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8
HDF5_START = b"\x89HDF\r\n\x1a\n"


class Layer(NamedTuple):
    """A layer: its name, the names of what it reads and makes, and its weights."""

    name: str
    bottoms: list[str]
    tops: list[str]
    blobs: list[np.ndarray]


def read_layers(path: str | os.PathLike) -> list[Layer]:
    """Reads the layers of a trained network, in Caffe's order; the blobs as float32.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is of another kind, such as a `.solverstate`, or truncated.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a directory" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"The weights file {path} {kind}.")
    data = path.read_bytes()
    try:
        if data.startswith(HDF5_START):
            return _read_hdf5(path)
        if _is_text(data):
            raise _OtherKind(
                "is text, as a prototxt, which describes a network or its training "
                "and has no weights"
            )
        return _read_net(memoryview(data))
    except _OtherKind as error:
        raise ValueError(
            f"{path} {error}. Pass the .caffemodel file of the trained network."
        ) from None
    except (Truncated, OSError) as error:
        raise ValueError(
            f"{path} can't be read as a .caffemodel: it is truncated or another kind "
            f"of file ({error})."
        ) from None


class Truncated(ValueError):
    """Raised when bytes end within a field or are not a message."""


class _OtherKind(ValueError):
    """Raised when a file is another of Caffe's kinds."""


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return bool(text.strip()) and "".join(text.split()).isprintable()


def _solver_state(learned_net: str) -> _OtherKind:
    return _OtherKind(
        "is a solver's state, which has the momentum of a training; its weights are "
        f"in {learned_net or 'another file'}"
    )


def _read_net(net: memoryview) -> list[Layer]:
    """Reads a binary NetParameter."""
    content = list(fields(net))
    kinds = dict(content)
    if isinstance(kinds.get(1), int):  # the name of a network is a string
        if DATA in kinds or DOUBLE_DATA in kinds:
            raise _OtherKind("is a mean image or another single blob")
        learned_net = kinds.get(2)
        raise _solver_state("" if isinstance(learned_net, int) else _text(learned_net))
    return [
        _layer(value, *LAYERS[number])
        for number, value in content
        if number in LAYERS and not isinstance(value, int)
    ]


def _layer(message: memoryview, name: int, bottom: int, top: int, blobs: int) -> Layer:
    layer = Layer("", [], [], [])
    for field, value in fields(message):
        if isinstance(value, int):
            continue
        if field == name:
            layer = layer._replace(name=_text(value))
        elif field == bottom:
            layer.bottoms.append(_text(value))
        elif field == top:
            layer.tops.append(_text(value))
        elif field == blobs:
            layer.blobs.append(_blob(value))
    return layer


def _text(value: memoryview | None) -> str:
    return bytes(value or b"").decode("utf-8", "replace")


def _read_hdf5(path: Path) -> list[Layer]:
    """Reads `data/LAYER/INDEX` of Caffe's HDF5 format, which has no graph."""
    import h5py

    blobs: dict[str, dict[int, np.ndarray]] = {}

    def visit(name: str, item: object) -> None:
        layer, _, index = name.rpartition("/")
        if isinstance(item, h5py.Dataset) and index.isdecimal():
            blobs.setdefault(layer, {})[int(index)] = item[()].astype("float32")

    with h5py.File(path) as file:
        if "learned_net" in file:
            name = file["learned_net"][()]
            raise _solver_state(name.decode() if isinstance(name, bytes) else "")
        if "data" not in file:
            raise _OtherKind(f"is HDF5 of another kind, with {', '.join(file)}")
        file["data"].visititems(visit)
    return [
        Layer(name, [], [], [by_index[index] for index in sorted(by_index)])
        for name, by_index in blobs.items()
    ]


def _blob(message: memoryview) -> np.ndarray:
    old_shape, shape, pieces = [1, 1, 1, 1], None, []
    for field, value in fields(message):
        if field in OLD_SHAPE and isinstance(value, int):
            old_shape[field - 1] = value
        elif isinstance(value, int):
            continue
        elif field == SHAPE:
            shape = [dim for _, dims in fields(value) for dim in _dims(dims)]
        elif field in (DATA, DOUBLE_DATA):
            dtype = "<f4" if field == DATA else "<f8"
            try:
                pieces.append(np.frombuffer(value, dtype))
            except ValueError as error:
                raise Truncated(str(error)) from None
    numbers = np.concatenate(pieces) if pieces else np.zeros(0, "float32")
    shape = old_shape if shape is None else shape
    if math.prod(shape) != numbers.size:
        raise Truncated(f"a blob of shape {shape} holds {numbers.size} numbers")
    return numbers.astype("float32", copy=False).reshape(shape)


def _dims(value: int | memoryview) -> list[int]:
    if isinstance(value, int):
        return [value]
    dims, at = [], 0
    while at < len(value):
        dim, at = varint(value, at)
        dims.append(dim)
    return dims


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields the fields of a message in order, as number and value.

    The value is an int (varint) or a view of the bytes (all other types: strings,
    messages, packed numbers, single floats).
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
        elif kind in FIXED:
            size = FIXED[kind]
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
