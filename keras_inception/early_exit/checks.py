"""Errors for wrong exits, thresholds and pictures, raised before any computation."""

from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

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


def possible_exits(model: keras.Model) -> list[str]:
    """The heads that predict the classes themselves; `ValueError` if there are none."""
    _check_exits(model, ())
    exits = [n for n in model.output if n != MAIN and not _is_coarse(model, n)]
    if not exits:
        raise ValueError(
            "The model has no head to exit at: none, or all predict superclasses."
        )
    return exits


def check_images(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns a batch as an array; a `ValueError` if its shape is not the model's."""
    images = np.asarray(images)
    expected = tuple(model.inputs[0].shape)
    sizes = zip(expected[1:], images.shape[1:], strict=False)
    if images.ndim != len(expected) or any(e not in (None, size) for e, size in sizes):
        raise ValueError(
            f"The model takes a batch of shape {expected}. Received: {images.shape}"
        )
    return images


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
