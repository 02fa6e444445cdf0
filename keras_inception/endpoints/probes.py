"""Linear probes in closed form: ridge regression on one-hot labels.

Everything that a regression and its squared error need are sums over the examples,
which are added batch by batch. So the memory does not grow with the dataset.
"""

import dataclasses

import numpy as np

# Ridge penalties to choose from, in units of a standardized feature's variance.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Factors on the scores to choose from, which make them logits.
SCALES = np.geomspace(0.5, 100, 40)


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """A linear classifier of features; its scores estimate the classes' probabilities.

    `weights` are `(features, classes)`, `bias` is `(classes,)`, in float64.
    """

    weights: np.ndarray
    bias: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores `(batch, classes)` of features `(batch, features)`."""
        return features @ self.weights + self.bias


class Sums:
    """Sums over examples that ridge regression needs, in float64.

    Args:
        origin: Subtracted from all features, so that sums of squares stay precise.
        classes: The number of classes.
    """

    def __init__(self, origin: np.ndarray, classes: int):
        size = len(origin)
        self.origin = origin.astype("float64")
        self.count = 0
        self.features = np.zeros(size)
        self.labels = np.zeros(classes)
        self.squares = np.zeros((size, size))
        self.products = np.zeros((size, classes))

    def add(self, features: np.ndarray, one_hot: np.ndarray) -> None:
        """Adds a batch: features `(batch, features)`, labels `(batch, classes)`."""
        features = features.astype("float64") - self.origin
        self.count += len(features)
        self.features += features.sum(0)
        self.labels += one_hot.sum(0)
        self.squares += features.T @ features
        self.products += features.T @ one_hot

    def __add__(self, other: "Sums") -> "Sums":
        total = Sums(self.origin, len(self.labels))
        for name in ("count", "features", "labels", "squares", "products"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def ridge(self, penalty: float) -> LinearProbe:
        """The ridge regression of the labels on the standardized features."""
        mean, label_mean = self.features / self.count, self.labels / self.count
        covariance = self.squares / self.count - np.outer(mean, mean)
        deviation = np.sqrt(np.maximum(covariance.diagonal(), 0))
        deviation[deviation <= 1e-9 * deviation.max()] = np.inf  # constant: no weight
        correlation = covariance / np.outer(deviation, deviation)
        products = self.products / self.count - np.outer(mean, label_mean)
        correlation.flat[:: len(mean) + 1] += penalty
        weights = np.linalg.solve(correlation, products / deviation[:, None])
        weights /= deviation[:, None]
        return LinearProbe(weights, label_mean - (self.origin + mean) @ weights)

    def squared_error(self, probe: LinearProbe) -> float:
        """The sum of a probe's squared errors over these examples and all classes."""
        weights, bias = probe.weights, probe.bias + self.origin @ probe.weights
        squares = np.vdot(weights, self.squares @ weights)
        crossed = self.features @ weights - self.labels
        return float(
            squares
            + 2 * bias @ crossed
            + self.count * bias @ bias
            - 2 * np.vdot(weights, self.products)
            + self.count
        )


def fit_probe(learned: Sums, held_back: Sums) -> LinearProbe:
    """Fits a probe to all examples, with the penalty that `held_back` prefers."""
    judges = held_back if held_back.count else learned
    best = min(PENALTIES, key=lambda p: judges.squared_error(learned.ridge(p)))
    return (learned + held_back).ridge(best)


def crossentropies(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The summed cross entropy of a batch under each of `SCALES`, `(scales,)`."""
    rows = np.arange(len(labels))
    found = []
    for scale in SCALES:
        logits = scale * (scores - scores.max(-1, keepdims=True))
        found.append(np.sum(np.log(np.exp(logits).sum(-1)) - logits[rows, labels]))
    return np.array(found)
