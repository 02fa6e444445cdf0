"""TF Serving's JSON: from a request's body to tensors, and from tensors to an answer.

The rules are those of tensorflow_serving/util/json_tensor.cc. Where a rule there loses
data without a word (a uint8 of 300 becomes 44), this refuses.
"""

import base64
import binascii
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_inception.server.errors import ServingError

# Integers that a float32 or a float64 holds exactly (IsLosslessDecimal).
_EXACT = {"float32": 2**24 - 1, "float64": 2**53 - 1}
_JSON_TYPES = {
    dict: "Object",
    list: "Array",
    str: "String",
    bool: "Bool",
    int: "Number",
    float: "Number",
    type(None): "Null",
}


class Input(NamedTuple):
    """What a signature takes by one name.

    Attributes:
        dtype: NumPy's name of the element type; `"object"` for strings.
        shape: With `None` where any size goes, or `None` for any shape.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    NaN, Infinity and -Infinity are numbers, as TF Serving documents ("JSON
    conformance").
    """
    if not body:
        raise ServingError("JSON Parse error: The document is empty")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ServingError(f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise ServingError(f"JSON Value: {_shown(request)} Is not object")
    if not isinstance(request.get("signature_name", ""), str):
        raise ServingError(
            f"JSON Value: {_shown(request)} not formatted correctly. 'signature_name' "
            "key must be a string value."
        )
    return request


def tensors(
    request: Mapping[str, Any], inputs: Mapping[str, Input]
) -> tuple[dict[str, np.ndarray], bool]:
    """A predict request's tensors, and whether it is in row format.

    Args:
        request: From `parse`.
        inputs: What the signature takes, by name.
    """
    if ("instances" in request) == ("inputs" in request):
        if "inputs" not in request:
            raise ServingError("Missing 'inputs' or 'instances' key")
        raise ServingError(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist"
        )
    if "instances" in request:
        columns = _columns_of_rows(request["instances"], inputs)
    else:
        columns = _columns(request["inputs"], inputs)
    arrays = {name: _array(value, inputs[name].dtype) for name, value in columns}
    for name, array in arrays.items():
        _check_shape(name, array.shape, inputs[name].shape)
    return arrays, "instances" in request


def examples(request: Mapping[str, Any]) -> list[dict[str, list]]:
    """A classify request's examples: for each, its features' values by name.

    Values are all bytes, all floats or all ints. `context` goes into every example.
    """
    context = _features(request.get("context", {}))
    listed = request.get("examples")
    if "examples" not in request:
        raise ServingError(
            "When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(listed, list):
        raise ServingError("Expecting 'examples' value to be an list/array")
    if not listed:
        raise ServingError("'examples' value is an empty array")
    return [context | _features(example) for example in listed]


def predictions(outputs: Mapping[str, np.ndarray], rows: bool) -> str:
    """A predict request's answer, in the format of the request."""
    plain = {name: _plain(name, outputs[name]) for name in sorted(outputs)}
    if not rows:
        return json.dumps({"outputs": _bare(plain)})
    sizes = {name: np.shape(array)[:1] for name, array in outputs.items()}
    if len(set(sizes.values())) > 1 or () in sizes.values():
        raise ServingError(
            f"Outputs have inconsistent batch sizes, which only the columnar format "
            f"('inputs') can answer: {sizes}"
        )
    if len(plain) == 1:
        return json.dumps({"predictions": _bare(plain)})
    # a dict for each row, in the order of the rows
    rows_of = (
        dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)
    )
    return json.dumps({"predictions": list(rows_of)})


def classifications(classes: np.ndarray, scores: np.ndarray) -> str:
    """A classify request's answer: for each example, pairs of label and score."""
    pairs = (
        [list(pair) for pair in zip(*row, strict=True)]
        for row in zip(_plain("classes", classes), _plain("", scores), strict=True)
    )
    return json.dumps({"results": list(pairs)})


def _columns_of_rows(instances: Any, inputs: Mapping[str, Input]):
    """Name and list of values for each input, from one value or object per row."""
    if not isinstance(instances, list):
        raise ServingError("Expecting 'instances' to be an list/array")
    if not instances:
        raise ServingError("No values in 'instances' array")
    named = [isinstance(row, dict) and not _is_base64(row) for row in instances]
    if not any(named):
        if len(inputs) > 1:
            raise ServingError(
                "instances is a plain list, but expecting list of objects as multiple "
                f"input tensors are required: {', '.join(sorted(inputs))}"
            )
        return [(name, instances) for name in inputs]
    if not all(named):
        raise ServingError(
            "Expecting object but got list or value at item "
            f"{named.index(False)} of input list, or the reverse before it"
        )
    for index, row in enumerate(instances):
        if set(row) != set(inputs):
            raise ServingError(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{_shown(row)} keys must be equal to: {','.join(sorted(inputs))}"
            )
    return [(name, [row[name] for row in instances]) for name in inputs]


def _columns(value: Any, inputs: Mapping[str, Input]):
    """Name and value for each input, from an object, or the one input's value."""
    if isinstance(value, dict) and not _is_base64(value):
        for name in inputs:
            if name not in value:
                raise ServingError(f"Missing named input: {name} in 'inputs' object.")
        return [(name, value[name]) for name in inputs]
    if len(inputs) > 1:
        raise ServingError(
            "inputs is a plain value/list, but expecting an object as multiple input "
            f"tensors are required: {', '.join(sorted(inputs))}"
        )
    return [(name, value) for name in inputs]


def _array(value: Any, dtype: str) -> np.ndarray:
    """Nested lists as an array: equal lists on every level, one type of leaves.

    Level by level rather than element by element, so that C code does the looking: a
    picture as a list has 150,000 numbers.
    """
    shape, leaves = [], [value]
    while list in (kinds := set(map(type, leaves))):
        if len(kinds) > 1:
            stray = next(leaf for leaf in leaves if type(leaf) is not list)
            raise ServingError(
                f"JSON Value: {_shown(stray)} found at incorrect level: {len(shape)} "
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
    if dtype == "object":
        array = np.empty(len(leaves), object)
        array[:] = [_bytes(leaf) for leaf in leaves]
    else:
        array = _numbers(leaves, kinds, np.dtype(dtype))
    return array.reshape(shape)


def _numbers(leaves: list, kinds: set[type], dtype: np.dtype) -> np.ndarray:
    legal = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}[dtype.kind]
    if not kinds <= legal:
        wrong = next(leaf for leaf in leaves if type(leaf) not in legal)
        raise ServingError(
            f"JSON Value: {_shown(wrong)} Type: {_JSON_TYPES[type(wrong)]} is not of "
            f"expected type: {dtype.name}"
        )
    if dtype.kind == "b":
        return np.array(leaves, dtype)
    whole = leaves if dtype.kind in "iu" else [x for x in leaves if type(x) is int]
    if whole:
        if dtype.kind in "iu":
            least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        else:
            most = _EXACT[dtype.name]
            least = -most
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


def _check_shape(name: str, shape: tuple, taken: tuple | None) -> None:
    fits = taken is None or (
        len(shape) == len(taken)
        and all(b is None or a == b for a, b in zip(shape, taken, strict=True))
    )
    if not fits:
        sizes = ",".join("?" if size is None else str(size) for size in taken)
        raise ServingError(
            f"{name} has shape [{','.join(map(str, shape))}]; the signature takes "
            f"[{sizes}]"
        )


def _lossy(value, dtype):
    return ServingError(
        f"Cannot convert JSON value: {_shown(value)} to {dtype.name} without loss of "
        "precision."
    )


def _is_base64(value: Any) -> bool:
    return (
        isinstance(value, dict) and set(value) == {"b64"} and type(value["b64"]) is str
    )


def _bytes(leaf: Any) -> bytes:
    """A string, or `{"b64": ...}`, as bytes."""
    if isinstance(leaf, str):
        try:
            return leaf.encode()
        except UnicodeEncodeError:  # half of a surrogate pair
            raise ServingError(
                f"JSON Value: {_shown(leaf)} is not valid Unicode"
            ) from None
    if not isinstance(leaf, dict):
        raise ServingError(
            f"JSON Value: {_shown(leaf)} Type: {_JSON_TYPES[type(leaf)]} is not of "
            "expected type: string"
        )
    if not _is_base64(leaf):
        raise ServingError(
            f"JSON Value: {_shown(leaf)} not formatted correctly for base64 data"
        )
    encoded = "".join(leaf["b64"].split()).rstrip("=")
    try:
        padding = "=" * (-len(encoded) % 4)
        return base64.b64decode(encoded + padding, validate=True)
    except (binascii.Error, ValueError):
        raise ServingError(
            "Unable to base64 decode: it takes the standard alphabet, with + and /"
        ) from None


def _features(example: Any) -> dict[str, list]:
    if not isinstance(example, dict):
        raise ServingError(
            "Example must be JSON object but got JSON "
            f"{_JSON_TYPES.get(type(example), 'value')}"
        )
    features = {}
    for name, content in example.items():
        listed = content if isinstance(content, list) else [content]
        values = [_feature_value(name, value) for value in listed]
        if len(set(map(type, values))) > 1:
            raise ServingError(
                f"Unexpected element type in feature: {name} expecting type: "
                f"{type(values[0]).__name__}"
            )
        features[name] = values
    return features


def _feature_value(name: str, value: Any) -> bytes | float | int:
    if isinstance(value, str) or _is_base64(value):
        return _bytes(value)
    if isinstance(value, float):
        return float(_numbers([value], {float}, np.dtype("float32"))[0])
    if isinstance(value, int):  # bool is one
        return int(_numbers([int(value)], {int}, np.dtype("int64"))[0])
    raise ServingError(
        f"Feature: {name} has element with unexpected JSON type: "
        f"{_JSON_TYPES[type(value)]}"
    )


def _plain(name: str, array: np.ndarray) -> Any:
    """An output as nested lists of what JSON knows."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        # The shortest digits that give the same float32 back; as a float64 0.2 would
        # become 0.20000000298023224.
        return array.astype(str).astype("float64").tolist()
    if array.dtype.kind != "O":
        return array.tolist()
    encode = _encoded if name.endswith("_bytes") else _text
    return np.vectorize(encode, otypes=[object])(array).tolist() if array.size else []


def _encoded(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _bare(plain: Mapping[str, Sequence]) -> Any:
    """One output goes without its name, several go by name."""
    return next(iter(plain.values())) if len(plain) == 1 else dict(plain)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
