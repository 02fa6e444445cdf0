"""Errors for wrong exits, thresholds and pictures, raised before any computation."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping

import keras

from keras_inception.early_exit.confidence import MEASURES
from keras_inception.graph import layer_of
from keras_inception.outputs import MAIN, Output
from keras_inception.text import list_names

Numbers = Mapping[str, float]


def check_settings(
    model: keras.Model, thresholds: Numbers, temperatures: Numbers, confidence: str
) -> None:
    """Raises a `ValueError` if one of `EarlyExit`'s arguments is wrong."""
    _check_exits(model, thresholds)
    _check_numbers("threshold", thresholds, "at least 0", lambda number: number >= 0)
    _check_numbers("temperature", temperatures, "above 0", lambda number: number > 0)
    if surplus := [name for name in temperatures if name not in thresholds]:
        raise ValueError(
            f"temperatures names exits without a threshold: {list_names(surplus)}"
        )
    if confidence not in MEASURES:
        raise ValueError(
            f"confidence must be one of {', '.join(MEASURES)}. Received: {confidence!r}"
        )


def check_goal(
    max_accuracy_drop: float | None,
    max_cost: float | None,
    confidence_level: float | None,
) -> None:
    """Raises a `ValueError` if what a calibration should reach is impossible."""
    if max_accuracy_drop is not None and max_cost is not None:
        raise ValueError(
            "Only one of max_accuracy_drop and max_cost can be reached; leave out one. "
            f"Received: {max_accuracy_drop} and {max_cost}"
        )
    if max_accuracy_drop is not None and not 0 <= max_accuracy_drop < 1:
        raise ValueError(
            "max_accuracy_drop must be at least 0 and less than 1; 0.005 is half a "
            f"percentage point. Received: {max_accuracy_drop}"
        )
    if max_cost is not None and not 0 < max_cost <= 1:
        raise ValueError(
            "max_cost must be above 0 and at most 1; 0.5 is half of main's "
            f"multiply-adds. Received: {max_cost}"
        )
    if confidence_level is not None and not 0.5 < confidence_level < 1:
        raise ValueError(
            "confidence_level must be above 0.5 and below 1; 0.95 is usual. Received: "
            f"{confidence_level}"
        )


def possible_exits(model: keras.Model) -> list[str]:
    """The heads that predict the classes themselves; `ValueError` if there are none."""
    _check_exits(model, ())
    exits = [n for n in model.output if n != MAIN and not _is_coarse(model, n)]
    if not exits:
        raise ValueError(
            "The model has no head to exit at: none, or all predict superclasses."
        )
    return exits


def dtype_of(model: keras.Model) -> str:
    """The dtype that a model computes in, though its outputs may be in float32."""
    dtypes = (layer.compute_dtype for layer in model.layers if layer.weights)
    return next((dtype for dtype in dtypes if dtype != "float32"), "float32")


def check_dtype(model: keras.Model, dtype: str, path: str | os.PathLike) -> None:
    """Raises a `ValueError` if a file's thresholds were chosen in another dtype."""
    if dtype != dtype_of(model):
        raise ValueError(
            f"The thresholds of {path} were calibrated in {dtype}, but the model "
            f"computes in {dtype_of(model)}. Calibrate them again for that."
        )


def digest_of(model: keras.Model) -> str:
    """A SHA-256 for a model's weights, the same on all backends.

    The order of the weights does not count, since a loaded model may have another.
    """
    arrays = map(keras.ops.convert_to_numpy, model.weights)
    # float32 holds the smaller types, which NumPy lacks on some backends, exactly
    parts = sorted(hashlib.sha256(x.astype("<f4").tobytes()).digest() for x in arrays)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def check_weights(model: keras.Model, digest: str, path: str | os.PathLike) -> None:
    """Raises a `ValueError` if a file's thresholds were chosen for other weights."""
    if digest != digest_of(model):
        raise ValueError(
            f"The thresholds of {path} were calibrated for a model with other weights, "
            "such as before a training. Calibrate them for this one: keras-inception "
            "calibrate MODEL DATA"
        )


def _check_exits(model: keras.Model, names: Iterable[str]) -> None:
    outputs = model.output
    if not isinstance(outputs, dict) or MAIN not in outputs or len(model.inputs) != 1:
        raise ValueError(
            f"EarlyExit needs a model with one input and a dict of outputs, {MAIN!r} "
            "and heads, as GoogLeNet() and attach_auxiliary() return. Received "
            f"{len(model.inputs)} input(s) and the outputs: {outputs}"
        )
    heads = [name for name in outputs if name != MAIN]
    for name in names:
        if name not in heads:
            raise ValueError(
                f"The model has no head {name!r}. Its heads: {list_names(heads)}"
            )
        if _is_coarse(model, name):
            raise ValueError(
                f"{name!r} cannot be an exit: it predicts superclasses, not classes."
            )


def _is_coarse(model: keras.Model, name: str) -> bool:
    layer = layer_of(model.output[name])
    return isinstance(layer, Output) and layer.superclasses is not None


def _check_numbers(
    kind: str, numbers: Numbers, bound: str, accepts: Callable[[float], bool]
) -> None:
    for name, number in numbers.items():
        try:
            good = accepts(float(number))  # False for NaN
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ValueError(
                f"The {kind} of {name!r} must be a number {bound}. Received: {number!r}"
            )
