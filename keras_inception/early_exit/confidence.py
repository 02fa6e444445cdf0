"""How confident an answer is, from its probabilities.

Every function takes NumPy arrays and tensors alike, in a graph too. Arrays go to NumPy,
which takes a thirtieth of the time of `keras.ops` for one picture.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from keras import ops

SMALLEST = 1e-30  # smaller probabilities count as this one in logarithms

Array = TypeVar("Array", bound=Any)  # a NumPy array or a tensor


def max_probability(probabilities: Array) -> Array:
    """The probability of the most likely class, from `1 / classes` to 1."""
    return _library(probabilities).max(probabilities, axis=-1)


def entropy(probabilities: Array) -> Array:
    """1 minus the normalized entropy: 0 (all classes alike) to 1 (certain)."""
    library = _library(probabilities)
    weighted = probabilities * _logarithms(probabilities)
    return 1 + library.sum(weighted, axis=-1) / math.log(probabilities.shape[-1])


MEASURES: dict[str, Callable[[Any], Any]] = {
    "max_probability": max_probability,
    "entropy": entropy,
}


def softmax(logits: Array) -> Array:
    """Logits `(..., classes)` as probabilities."""
    library = _library(logits)
    powers = library.exp(logits - library.max(logits, axis=-1, keepdims=True))
    return powers / library.sum(powers, axis=-1, keepdims=True)


def tempered(probabilities: Array, temperature: float) -> Array:
    """The softmax of the logits divided by `temperature`; above 1 is less confident.

    Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2. The logits
    are recovered from the probabilities up to a constant, which a softmax ignores.
    """
    if temperature == 1:
        return probabilities
    return softmax(_logarithms(probabilities) / temperature)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature, from 0.1 to 10, with the smallest crossentropy."""
    rows = np.arange(len(labels))
    exact = probabilities.astype("float64")  # the minimum is flat

    def crossentropy(log_temperature):
        of_labels = tempered(exact, math.exp(log_temperature))[rows, labels]
        return -np.mean(_logarithms(of_labels))

    # Golden-section search: the crossentropy is convex in 1 / temperature.
    low, high = math.log(0.1), math.log(10)
    shrink = (math.sqrt(5) - 1) / 2
    for _ in range(40):
        lower, upper = high - shrink * (high - low), low + shrink * (high - low)
        if crossentropy(lower) < crossentropy(upper):
            high = upper
        else:
            low = lower
    return math.exp((low + high) / 2)


def _logarithms(probabilities: Any) -> Any:
    library = _library(probabilities)
    return library.log(library.maximum(probabilities, SMALLEST))


def _library(values: object) -> ModuleType:
    return np if isinstance(values, np.ndarray) else ops
