"""JSON values to arrays and back: nested lists, numbers, strings, base64.

The rules are those of tensorflow_serving/util/json_tensor.cc. Where a rule there
silently changes a whole number (a uint8 of 300 becomes 44), this raises a
`ServingError`.
"""

import base64
import itertools
import json
from typing import Any

import numpy as np

from keras_inception.server.json_text import Constant
from keras_inception.server.limits import ServingError

_TYPE_NAMES = {str: "String", list: "Array", bool: "Bool", type(None): "Null"}
_FLOATS, _INTEGERS = (int, float, Constant), (int,)
# AddValueToTensor and AddSingleValueAndAdvance: JSON carries no other types.
_LEGAL_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "float32": _FLOATS,
    "float64": _FLOATS,
    "int8": _INTEGERS,
    "int16": _INTEGERS,
    "int32": _INTEGERS,
    "int64": _INTEGERS,
    "uint8": _INTEGERS,
    "uint32": _INTEGERS,
    "uint64": _INTEGERS,
}
_MOST_DIMENSIONS = 64  # of a NumPy array


def to_array(value: Any, dtype: np.dtype) -> np.ndarray:
    """Nested JSON lists as an array; lists of one level must have equal lengths.

    Works level by level rather than value by value, so that C code does most of it: a
    picture as a list has 150,000 numbers.
    """
    shape: list[int] = []
    leaves = [value]
    while list in (kinds := set(map(type, leaves))):
        if len(kinds) > 1:
            stray = next(leaf for leaf in leaves if type(leaf) is not list)
            raise ServingError(
                f"JSON Value: {shown(stray)} found at incorrect level: {len(shape)} "
                "in the JSON DOM, beside lists"
            )
        sizes = list(map(len, leaves))
        if len(set(sizes)) > 1:
            other = next(size for size in sizes if size != sizes[0])
            raise ServingError(
                f"Encountered list at unexpected size: {other} at level: {len(shape)} "
                f"expected size: {sizes[0]}"
            )
        if len(shape) == _MOST_DIMENSIONS:
            raise ServingError(
                f"Encountered lists at unexpected level: {len(shape)}; arrays have at "
                f"most {_MOST_DIMENSIONS} dimensions"
            )
        shape.append(sizes[0])
        leaves = list(itertools.chain.from_iterable(leaves))
    if dtype.kind == "O":
        array = np.empty(len(leaves), object)
        array[:] = [to_bytes(leaf) for leaf in leaves]
    elif leaves:
        array = _numbers(leaves, kinds, dtype)
    else:
        array = np.empty(0, dtype)
    return array.reshape(shape)


def _numbers(leaves: list, kinds: set[type], dtype: np.dtype) -> np.ndarray:
    legal = _LEGAL_TYPES.get(dtype.name, ())
    if not kinds.issubset(legal):
        wrong = next(leaf for leaf in leaves if type(leaf) not in legal)
        if legal or isinstance(wrong, dict):
            raise _wrong_type(wrong, dtype.name)
        raise ServingError(
            f"Conversion of JSON Value: {shown(wrong)} to type: {dtype.name} is not "
            "supported",
            501,
        )
    if legal is _FLOATS:
        return _floats(leaves, dtype)
    if legal is _INTEGERS:
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        for extreme in (min(leaves), max(leaves)):
            if not least <= extreme <= most:
                raise ServingError(
                    f"JSON Value: {shown(extreme)} is not of expected type: "
                    f"{dtype.name}, which holds {least} to {most}"
                )
    return np.array(leaves, dtype)


def _floats(leaves: list, dtype: np.dtype) -> np.ndarray:
    """Rounds numbers to floats; beyond float32 they become infinite (GetFloat)."""
    try:
        floats = np.array(leaves, "float64")
    except OverflowError:  # a whole number of more than 308 digits
        raise too_big() from None
    for index in np.flatnonzero(np.isinf(floats)):
        if type(leaves[index]) is not Constant:
            raise too_big()
    with np.errstate(over="ignore"):
        return floats.astype(dtype)


def too_big() -> ServingError:
    """The error for a number beyond float64, which RapidJSON does not parse."""
    return ServingError("JSON Parse error: Number too big to be stored in double")


def to_bytes(value: Any) -> bytes:
    """A JSON string, or `{"b64": ...}`, as bytes."""
    if isinstance(value, str):
        return value.encode()
    if is_base64(value):
        return _from_base64(value["b64"])
    if isinstance(value, dict):
        raise ServingError(
            f"JSON Value: {shown(value)} not formatted correctly for base64 data"
        )
    raise _wrong_type(value, "string")


def _from_base64(encoded: str) -> bytes:
    """Decodes base64 as absl::Base64Unescape does.

    White space is ignored. Padding, by `=` or `.`, may be missing; if it is there, it
    must be complete.
    """
    try:
        text = b"".join(encoded.encode("ascii").split())
        data = text.rstrip(b"=.")
        padding = -len(data) % 4
        if len(text) - len(data) not in (0, padding):
            raise ValueError("wrong padding")
        return base64.b64decode(data + b"=" * padding, validate=True)
    except ValueError:
        raise ServingError(
            "Unable to base64 decode: use the standard alphabet, with + and /"
        ) from None


def is_base64(value: Any) -> bool:
    """Whether a JSON value has the form `{"b64": "..."}`."""
    return type(value) is dict and set(value) == {"b64"} and type(value["b64"]) is str


def to_json(name: str, output: Any) -> Any:
    """An output as nested lists; strings of an output `*_bytes` become base64."""
    # A scalar string; NumPy's own bytes type would drop zeros at its end.
    scalar = isinstance(output, bytes)
    array = np.array(output, object) if scalar else np.asarray(output)
    if not array.size:
        return array.tolist()
    if array.dtype.name == "float32":
        # The shortest digits that parse to the same float32: as a float64, 0.2 would be
        # printed as 0.20000000298023224.
        return array.astype(str).astype("float64").tolist()
    if array.dtype.name in _LEGAL_TYPES:
        return array.tolist()
    if array.dtype.kind != "O":
        raise ServingError(
            f"Failed to write JSON value for tensor type: {array.dtype.name}"
        )

    def encode(content: bytes) -> str | dict[str, str]:
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(content).decode()}
        return content.decode("utf-8", "replace")

    encoded = {content: encode(content) for content in set(array.flat)}
    return np.vectorize(encoded.get, otypes=[object])(array).tolist()


def type_name(value: Any) -> str:
    """The name of a JSON value's type in messages, such as `Number`."""
    if isinstance(value, dict):
        return "Object"
    return _TYPE_NAMES.get(type(value), "Number")


def shown(value: Any) -> str:
    """A JSON value in a message, shortened to 200 characters."""
    text = ""
    for part in json.JSONEncoder().iterencode(value):  # no more than is shown
        text += part[:201]
        if len(text) > 200:
            return f"{text[:200]}..."
    return text


def _wrong_type(value: Any, expected: str) -> ServingError:
    return ServingError(
        f"JSON Value: {shown(value)} Type: {type_name(value)} is not of expected type: "
        f"{expected}"
    )
