"""JSON values to arrays and back: nested lists, numbers, strings, base64.

The rules are those of tensorflow_serving/util/json_tensor.cc. Where a rule there
silently changes a value (a uint8 of 300 becomes 44), this raises a `ServingError`.
"""

import base64
import itertools
import json
from typing import Any

import numpy as np

from keras_inception.server.limits import ServingError

_TYPE_NAMES = {dict: "Object", list: "Array", str: "String", bool: "Bool"}
_LEGAL_TYPES = {"f": (int, float), "i": (int,), "u": (int,), "b": (bool,)}


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
        shape.append(sizes[0])
        leaves = list(itertools.chain.from_iterable(leaves))
    if dtype.kind == "O":
        array = np.empty(len(leaves), object)
        array[:] = [to_bytes(leaf) for leaf in leaves]
    else:
        array = _numbers(leaves, kinds, dtype)
    return array.reshape(shape)


def _numbers(leaves: list, kinds: set[type], dtype: np.dtype) -> np.ndarray:
    legal = _LEGAL_TYPES[dtype.kind]
    if not kinds.issubset(legal):
        wrong = next(leaf for leaf in leaves if type(leaf) not in legal)
        raise _wrong_type(wrong, dtype.name)
    if dtype.kind == "b":
        return np.array(leaves, dtype)
    if dtype.kind == "f":
        most = 2 ** (np.finfo(dtype).nmant + 1) - 1  # IsLosslessDecimal
        least, whole = -most, [leaf for leaf in leaves if type(leaf) is int]
    else:
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        whole = leaves
    for extreme in (min(whole, default=0), max(whole, default=0)):
        if not least <= extreme <= most:
            raise _lossy(extreme, dtype)
    if dtype.kind != "f":
        return np.array(leaves, dtype)
    floats = np.array(leaves, "float64")
    beyond = np.isfinite(floats) & (np.abs(floats) > np.finfo(dtype).max)
    if beyond.any():
        raise _lossy(float(floats[beyond][0]), dtype)
    return floats.astype(dtype)


def to_bytes(value: Any) -> bytes:
    """A JSON string, or `{"b64": ...}`, as bytes."""
    try:
        if isinstance(value, str):
            return value.encode()
        if is_base64(value):
            encoded = "".join(value["b64"].split()).rstrip("=")
            return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except UnicodeEncodeError:  # half of a surrogate pair
        raise ServingError(f"JSON Value: {shown(value)} is not valid Unicode") from None
    except ValueError:
        raise ServingError(
            "Unable to base64 decode: use the standard alphabet, with + and /"
        ) from None
    if isinstance(value, dict):
        raise ServingError(
            f"JSON Value: {shown(value)} not formatted correctly for base64 data"
        )
    raise _wrong_type(value, "string")


def is_base64(value: Any) -> bool:
    """Whether a JSON value has the form `{"b64": "..."}`."""
    return type(value) is dict and set(value) == {"b64"} and type(value["b64"]) is str


def to_json(name: str, array: np.ndarray) -> Any:
    """An output as nested lists; strings of an output `*_bytes` become base64."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        # The shortest digits that parse to the same float32: as a float64, 0.2 would be
        # printed as 0.20000000298023224.
        return array.astype(str).astype("float64").tolist()
    if array.dtype.kind != "O":
        return array.tolist()

    def encode(content: bytes) -> str | dict[str, str]:
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(content).decode()}
        return content.decode("utf-8", "replace")

    return np.vectorize(encode, otypes=[object])(array).tolist() if array.size else []


def type_name(value: Any) -> str:
    """The name of a JSON value's type in messages, such as `Number`."""
    return _TYPE_NAMES.get(type(value), "Null" if value is None else "Number")


def shown(value: Any) -> str:
    """A JSON value in a message, shortened to 200 characters."""
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _wrong_type(value: Any, expected: str) -> ServingError:
    return ServingError(
        f"JSON Value: {shown(value)} Type: {type_name(value)} is not of expected type: "
        f"{expected}"
    )


def _lossy(value: float, dtype: np.dtype) -> ServingError:
    return ServingError(
        f"Cannot convert JSON value: {shown(value)} to {dtype.name} without loss of "
        "precision."
    )
