"""JSON bodies: requests to tensors or examples, and outputs to answers.

The rules are those of tensorflow_serving/util/json_tensor.cc. A request that breaks one
raises a `ServingError`.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_inception.server import json_text
from keras_inception.server.json_text import Repeated
from keras_inception.server.json_values import (
    is_base64,
    shown,
    to_array,
    to_bytes,
    to_json,
    type_name,
)
from keras_inception.server.limits import ServingError


def parse(body: bytes, most_lists: int = 2**22) -> dict[str, Any]:
    """The JSON object in a request's body; see `json_text.parse`."""
    request = json_text.parse(body, most_lists)
    if not isinstance(request, dict):
        raise ServingError(f"JSON Value: {shown(request)} Is not object")
    if not isinstance(request.get("signature_name", ""), str):
        raise ServingError(
            f"JSON Value: {shown(request)} not formatted correctly. 'signature_name' "
            "key must be a string value."
        )
    return request


def tensors(
    request: Mapping[str, Any], inputs: Mapping[str, tf.TensorSpec]
) -> tuple[dict[str, np.ndarray], bool]:
    """A predict request's arrays by input name, and whether it is in row format.

    Names and types are the signature's. Shapes are the client's: whether a model can
    use them is found out by running it, as in TF Serving.
    """
    if not inputs:
        raise ServingError("Failed to get input map for signature: it has no inputs")
    rows = "instances" in request
    if not rows and "inputs" not in request:
        raise ServingError("Missing 'inputs' or 'instances' key")
    if rows and "inputs" in request:
        raise ServingError(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist"
        )
    if rows:
        columns = _columns_of_rows(request["instances"], inputs)
    else:
        columns = _columns(request["inputs"], inputs)
    try:
        return {
            name: to_array(value, np.dtype(inputs[name].dtype.as_numpy_dtype))
            for name, value in columns.items()
        }, rows
    except ServingError as error:
        if rows:  # FillTensorMapFromInstancesList makes one error of all
            raise ServingError(f"Failed to process 'instances' list: {error}") from None
        raise


def _columns_of_rows(instances: Any, names: Collection[str]) -> dict[str, list]:
    """The values of each input, from a list with one value or object per row."""
    if not isinstance(instances, list):
        raise ServingError("Expecting 'instances' to be an list/array")
    if not instances:
        raise ServingError("No values in 'instances' array")
    named = [isinstance(row, dict) and not is_base64(row) for row in instances]
    if not any(named):
        if len(names) > 1:
            raise ServingError(
                "instances is a plain list, but expecting list of objects as multiple "
                f"input tensors are required: {', '.join(sorted(names))}"
            )
        return {name: instances for name in names}
    if not all(named):
        raise ServingError(
            "Expecting object but got list or value at item "
            f"{named.index(False)} of input list, or the reverse before it"
        )
    for index, row in enumerate(instances):
        if set(row) != set(names):
            raise ServingError(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{shown(row)} keys must be equal to: {','.join(sorted(names))}"
            )
    return {name: [row[name] for row in instances] for name in names}


def _columns(value: Any, names: Collection[str]) -> dict[str, Any]:
    """The value of each input, from an object, or from the only input's value."""
    if isinstance(value, dict) and not is_base64(value):
        for name in names:
            if name not in value:
                raise ServingError(f"Missing named input: {name} in 'inputs' object.")
        return {name: value[name] for name in names}
    if len(names) > 1:
        raise ServingError(
            "inputs is a plain value/list, but expecting an object as multiple input "
            f"tensors are required: {', '.join(sorted(names))}"
        )
    return {name: value for name in names}


def examples(request: Mapping[str, Any]) -> list[bytes]:
    """The serialized `tf.Example`s of a classify or regress request.

    The values of a feature are all bytes, all floats or all ints. The features of
    `context` are added to every example.
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
    return [_serialized(context | _features(example)) for example in listed]


def _features(example: Any) -> dict[str, list]:
    if not isinstance(example, dict):
        raise ServingError(
            f"Example must be JSON object but got JSON {type_name(example)}"
        )
    features = {}
    last = example.last if isinstance(example, Repeated) else example
    for name, content in last.items():
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
    if isinstance(value, str) or is_base64(value):
        return to_bytes(value)
    if isinstance(value, int) and -(2**63) <= value < 2**64:  # or a bool
        if value >= 2**63:
            raise ServingError(
                f"Feature: {name} has uint64_t element. Only int64_t is supported."
            )
        return int(value)
    if isinstance(value, (int, float)):  # RapidJSON reads longer integers as doubles
        return float(to_array(value, np.dtype("float32")))
    raise ServingError(
        f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
    )


def _serialized(features: Mapping[str, list]) -> bytes:
    example = tf.train.Example()
    kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
    for name, values in features.items():
        feature = example.features.feature[name]  # also adds one without values
        if values:
            getattr(feature, kinds[type(values[0])]).value.extend(values)
    return example.SerializeToString()


def check_size(outputs: Iterable[np.ndarray], most: int) -> None:
    """Raises a `ServingError` (413) for outputs of more than `most` values.

    As JSON each takes up to 100 bytes, and a picture of 40 bytes is answered by a
    thousand classes and scores.
    """
    if sum(np.size(array) for array in outputs) > most:
        raise ServingError(
            f"The answer has more than {most:,} values. Ask for fewer rows at once", 413
        )


def predictions(outputs: Mapping[str, np.ndarray], rows: bool) -> str:
    """The body of a predict answer, in row format if the request was."""
    if not outputs:
        raise ServingError("Cannot convert empty tensor map to JSON")
    if rows:
        sizes = {name: np.shape(array)[:1] for name, array in outputs.items()}
        if len(set(sizes.values())) > 1 or () in sizes.values():
            raise ServingError(
                "Outputs have inconsistent batch sizes, which only the columnar format "
                f"('inputs') can answer: {sizes}"
            )
    plain = {name: to_json(name, outputs[name]) for name in sorted(outputs)}
    if len(plain) == 1:  # goes without its name
        (values,) = plain.values()
    elif rows:
        by_row = zip(*plain.values(), strict=True)
        values = [dict(zip(plain, row, strict=True)) for row in by_row]
    else:
        values = plain
    return json.dumps({"predictions" if rows else "outputs": values})


def classifications(labels: np.ndarray, scores: np.ndarray) -> str:
    """The body of a classify answer: a list of (label, score) pairs per example."""
    answers = zip(to_json("classes", labels), to_json("", scores), strict=True)
    pairs = [list(zip(*answer, strict=True)) for answer in answers]
    return json.dumps({"results": pairs})


def regressions(values: np.ndarray) -> str:
    """The body of a regress answer: a value per example."""
    return json.dumps({"results": to_json("", values)})
