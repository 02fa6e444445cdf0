"""JSON values to arrays and back: nested lists, numbers, strings, base64.

The rules are those of tensorflow_serving/util/json_tensor.cc. Where a rule there
silently changes a value (a uint8 of 300 becomes 44), this raises an error.
"""

import base64
import binascii
import itertools
import json
from typing import Any

import numpy as np

from keras_inception.server.errors import ServingError

# Integers that a float32 or a float64 represents exactly (IsLosslessDecimal).
_EXACT = {"float32": 2**24 - 1, "float64": 2**53 - 1}
_TYPE_NAMES = {
    dict: "Object",
    list: "Array",
    str: "String",
    bool: "Bool",
    int: "Number",
    float: "Number",
    type(None): "Null",
}


def to_array(value: Any, dtype: np.dtype) -> np.ndarray:
    """Nested JSON lists as an array; lists of one level must have equal lengths.

    Works level by level rather than value by value, so that C code does most of it: a
    picture as a list has 150,000 numbers.

    Args:
        value: A parsed JSON value.
        dtype: The element type; that of Python objects for strings.

    Raises:
        ServingError: If the lists are ragged, or a value is of another type or does not
            fit.
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
        shape.append(sizes[0])
        leaves = list(itertools.chain.from_iterable(leaves))
    if dtype.kind == "O":
        array = np.empty(len(leaves), object)
        array[:] = [to_bytes(leaf) for leaf in leaves]
    else:
        array = _numbers(leaves, kinds, dtype)
    return array.reshape(shape)


def _numbers(leaves: list, kinds: set[type], dtype: np.dtype) -> np.ndarray:
    legal_types: dict[str, set[type]] = {
        "f": {int, float},
        "i": {int},
        "u": {int},
        "b": {bool},
    }
    legal = legal_types[dtype.kind]
    if not kinds <= legal:
        wrong = next(leaf for leaf in leaves if type(leaf) not in legal)
        raise ServingError(
            f"JSON Value: {shown(wrong)} Type: {type_name(wrong)} is not of "
            f"expected type: {dtype.name}"
        )
    if dtype.kind == "b":
        return np.array(leaves, dtype)
    whole = leaves if dtype.kind in "iu" else [x for x in leaves if type(x) is int]
    if whole:
        if dtype.kind in "iu":
            least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        else:
            least, most = -_EXACT[dtype.name], _EXACT[dtype.name]
        for extreme in (min(whole), max(whole)):
            if not least <= extreme <= most:
                raise _lossy(extreme, dtype)
    array = np.array(leaves, "float64" if dtype.kind == "f" else dtype)
    if dtype.name == "float32":
        finite = array[np.isfinite(array)]
        beyond = finite[np.abs(finite) > np.finfo("float32").max]
        if beyond.size:
            raise _lossy(float(beyond[0]), dtype)
    return array.astype(dtype)


def _lossy(value: float, dtype: np.dtype) -> ServingError:
    return ServingError(
        f"Cannot convert JSON value: {shown(value)} to {dtype.name} without loss of "
        "precision."
    )


def to_bytes(value: Any) -> bytes:
    """A JSON string, or `{"b64": ...}`, as bytes.

    Raises:
        ServingError: If it is neither, or not valid Unicode or base64.
    """
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            raise ServingError(
                f"JSON Value: {shown(value)} is not valid Unicode"
            ) from None
    if not isinstance(value, dict):
        raise ServingError(
            f"JSON Value: {shown(value)} Type: {type_name(value)} is not of "
            "expected type: string"
        )
    if not is_base64(value):
        raise ServingError(
            f"JSON Value: {shown(value)} not formatted correctly for base64 data"
        )
    encoded = "".join(value["b64"].split()).rstrip("=")
    try:
        padding = "=" * (-len(encoded) % 4)
        return base64.b64decode(encoded + padding, validate=True)
    except (binascii.Error, ValueError):
        raise ServingError(
            "Unable to base64 decode: use the standard alphabet, with + and /"
        ) from None


def is_base64(value: Any) -> bool:
    """Whether a JSON value has the form `{"b64": "..."}`."""
    return (
        isinstance(value, dict) and set(value) == {"b64"} and type(value["b64"]) is str
    )


def type_name(value: Any) -> str:
    """The name of a JSON value's type in messages, such as `Number`."""
    return _TYPE_NAMES[type(value)]


def to_json(name: str, array: np.ndarray) -> Any:
    """An output as nested lists of JSON values.

    Args:
        name: The output's name; if it ends in `_bytes`, strings become base64.
        array: The output.
    """
    array = np.asarray(array)
    if array.dtype.kind == "f":
        # The shortest digits that parse to the same float32: as a float64, 0.2 would be
        # printed as 0.20000000298023224.
        return array.astype(str).astype("float64").tolist()
    if array.dtype.kind != "O":
        return array.tolist()
    encode = _encoded if name.endswith("_bytes") else _text
    return np.vectorize(encode, otypes=[object])(array).tolist() if array.size else []


def _encoded(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def shown(value: Any) -> str:
    """A JSON value in a message, shortened to 200 characters."""
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
