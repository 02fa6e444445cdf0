"""Outputs to the JSON body of a predict or classify answer.

The rules are those of tensorflow_serving/util/json_tensor.cc.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_inception.server.errors import ServingError
from keras_inception.server.json_values import to_json


def predictions(outputs: Mapping[str, np.ndarray], rows: bool) -> str:
    """The body of a predict answer.

    Args:
        outputs: Arrays by output name.
        rows: Whether to answer in row format, as the request was.

    Raises:
        ServingError: If row format is not possible, since the outputs have different
            batch sizes.
    """
    plain = {name: to_json(name, outputs[name]) for name in sorted(outputs)}
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
    objects = [
        dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)
    ]
    return json.dumps({"predictions": objects})


def classifications(classes: np.ndarray, scores: np.ndarray) -> str:
    """The body of a classify answer: a list of (label, score) pairs per example."""
    pairs = (
        [list(pair) for pair in zip(*row, strict=True)]
        for row in zip(to_json("classes", classes), to_json("", scores), strict=True)
    )
    return json.dumps({"results": list(pairs)})


def _bare(plain: Mapping[str, Sequence]) -> Any:
    """A single output without its name, several as an object by name."""
    return next(iter(plain.values())) if len(plain) == 1 else dict(plain)
