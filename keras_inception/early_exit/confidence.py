"""How sure an answer is, from its probabilities."""

from collections.abc import Callable

import numpy as np

SMALLEST = 1e-30  # probabilities below count as this in logarithms


def max_probability(probabilities: np.ndarray) -> np.ndarray:
    """The probability of the likeliest class, `1 / classes` to 1."""
    return probabilities.max(axis=-1)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """1 less the entropy over its largest value: 0 (all alike) to 1 (certain)."""
    logs = np.log(np.maximum(probabilities, SMALLEST))
    return 1 + (probabilities * logs).sum(axis=-1) / np.log(probabilities.shape[-1])


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "max_probability": max_probability,
    "entropy": entropy,
}


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The softmax of the logits over `temperature`; above 1 it is less sure.

    Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2. The logits
    are taken back from the probabilities: a softmax doesn't see the constant between.
    """
    if temperature == 1:
        return probabilities
    logits = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    return softmax(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits `(..., classes)` as probabilities."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def fitted_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least crossentropy on held-out data.

    Args:
        probabilities: `(examples, classes)`.
        labels: Class indices `(examples,)`.

    Returns:
        A number from 0.1 to 10.
    """
    rows = np.arange(len(labels))

    def crossentropy(log_temperature):
        right = tempered(probabilities, np.exp(log_temperature))[rows, labels]
        return -np.mean(np.log(np.maximum(right, SMALLEST)))

    # convex in 1 / temperature, so that halving a bracket finds it: golden section
    low, high = np.log(0.1), np.log(10)
    shrink = (np.sqrt(5) - 1) / 2
    for _ in range(40):
        a, b = high - shrink * (high - low), low + shrink * (high - low)
        if crossentropy(a) < crossentropy(b):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))
