"""`rank_endpoints`: what a probe on each endpoint answers, and its costs."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_inception.batches import Dataset, labeled_batches
from keras_inception.costs import multiply_adds
from keras_inception.endpoints.costs import milliseconds_to, relative_gradients
from keras_inception.endpoints.features import PooledFeatures
from keras_inception.endpoints.probes import (
    SCALES,
    LinearProbe,
    Sums,
    crossentropies,
    fit_probe,
)
from keras_inception.outputs import MAIN
from keras_inception.supervision import attach_auxiliary, detach_auxiliary
from keras_inception.supervision.head_placement import Endpoint, endpoints_for_heads

TIMED = 32  # pictures in a timed forward pass, at most
HELD_BACK = 0.2  # of the training pictures, to choose the penalties


class EndpointRow(NamedTuple):
    """An endpoint, what its features tell, and what reaching it costs.

    Attributes:
        endpoint: The layer that a head would read.
        accuracy: Of a linear probe on its features, on the held-out pictures.
        multiply_adds: Of one picture's forward pass up to it.
        share: Of main's multiply-adds.
        milliseconds: Median time of that pass per picture, in a batch of up to 32.
        saving: Share of main's multiply-adds that one exit there would save for half a
            point less accuracy, if its head answered as the probe, at no cost.
        gradient: Norm of the gradient that a head there would send to the weights
            before it, divided by main's; `None` where main sends none, or those
            weights are frozen.
    """

    endpoint: str
    accuracy: float
    multiply_adds: int
    share: float
    milliseconds: float
    saving: float
    gradient: float | None


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Rows in network order, and the same figures of main itself."""

    rows: list[EndpointRow]
    main: EndpointRow


def rank_endpoints(
    model: keras.Model, train: Dataset, held_out: Dataset
) -> list[EndpointRow]:
    """Measures every endpoint that a head could read: its features and its costs.

    A linear probe, ridge regression on one-hot labels, is fitted in closed form to each
    endpoint's frozen features, averaged over a grid of at most 4x4 cells. Its penalty
    is chosen on a fifth of the training pictures. The endpoints are those that every
    path to the output passes through. The model does not change, and the memory does
    not grow with the training pictures.

    Args:
        model: A functional classifier with one input, with heads or without.
        train: Batches of `(images, labels)`, or one such pair of arrays; labels are
            class indices or one-hot. Each is read once.
        held_out: Likewise, pictures that neither the model nor the probes learned from.

    Returns:
        A row for each endpoint, in network order.

    Raises:
        ValueError: If the model is not such a classifier, has no such endpoint or
            leaves its input size open, or a dataset is empty or does not fit the model.

    Example:
    >>> inputs = keras.Input((8, 8, 3))
    >>> x = keras.layers.Conv2D(4, 3, activation="relu", name="one")(inputs)
    >>> x = keras.layers.Conv2D(4, 3, activation="relu", name="two")(x)
    >>> x = keras.layers.GlobalAveragePooling2D()(x)
    >>> model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    >>> images, labels = np.random.rand(12, 8, 8, 3), np.arange(12) % 3
    >>> rows = rank_endpoints(model, (images[:6], labels[:6]), (images[6:], labels[6:]))
    >>> [(row.endpoint, row.multiply_adds) for row in rows]
    [('one', 3888), ('two', 6192)]
    """
    return measure_endpoints(model, train, held_out).rows


def measure_endpoints(model: keras.Model, train: Dataset, held_out: Dataset) -> Ranking:
    """As `rank_endpoints`, with main's own figures beside the rows."""
    model, main, endpoints = find_endpoints(model)
    features = PooledFeatures(model, main, endpoints)
    probes = fit_probes(model, features, train)
    judged = judge_probes(model, features, probes, held_out)
    tensors = [endpoint.tensor for endpoint in endpoints]
    times = milliseconds_to(model, [*tensors, main], judged.images)
    heads = list(zip(probes, judged.scales, strict=True))
    gradients = relative_gradients(
        features, tensors, heads, judged.images, judged.labels
    )
    rows = [
        EndpointRow(
            endpoint.name,
            float(correct.mean()),
            endpoint.multiply_adds,
            endpoint.share,
            milliseconds,
            judged.share_leaving(index) * (1 - endpoint.share),
            gradient,
        )
        for index, (endpoint, correct, milliseconds, gradient) in enumerate(
            zip(endpoints, judged.correct, times[:-1], gradients, strict=True)
        )
    ]
    total = sum(multiply_adds(model).values())
    accuracy = float(judged.main_correct.mean())
    return Ranking(rows, EndpointRow(MAIN, accuracy, total, 1.0, times[-1], 0.0, 1.0))


def find_endpoints(
    model: keras.Model,
) -> tuple[keras.Model, keras.KerasTensor, list[Endpoint]]:
    """A classifier without its heads, its main output, and its endpoints.

    Raises a `ValueError` as `rank_endpoints` does.
    """
    if isinstance(getattr(model, "output", None), dict):
        model = detach_auxiliary(model)
    model = attach_auxiliary(model, [])  # checks that it is a functional classifier
    if len(model.inputs) != 1:
        raise ValueError(
            "Endpoints are ranked for models with one input. This model has "
            f"{len(model.inputs)}: {model.input}"
        )
    main = model.output[MAIN]
    endpoints = endpoints_for_heads(model)
    if not endpoints:
        raise ValueError(
            "The model has no endpoint for a head: no layer between its input and its "
            "last multiply-adds that every path passes through."
        )
    return model, main, endpoints


@dataclasses.dataclass(frozen=True)
class JudgedProbes:
    """The probes' answers to pictures that they were not fitted to.

    Attributes:
        correct: Whether each probe is right, `(endpoints, pictures)`.
        margins: Its highest score minus its second highest: how sure it is.
        main_correct: Whether main is right, `(pictures,)`.
        scales: For each probe, the factor that makes the best logits of its scores.
        images, labels: A batch of the pictures, and their class indices.
    """

    correct: np.ndarray
    margins: np.ndarray
    main_correct: np.ndarray
    scales: np.ndarray
    images: np.ndarray
    labels: np.ndarray

    def share_leaving(self, index: int, max_drop: float = 0.005) -> float:
        """The largest share of pictures, surest first, to answer within a drop."""
        surest_first = np.argsort(-self.margins[index], kind="stable")
        lost = self.main_correct.astype(int) - self.correct[index]
        drops = np.cumsum(lost[surest_first]) / len(lost)
        allowed = np.flatnonzero(drops <= max_drop)
        return float(allowed[-1] + 1) / len(lost) if len(allowed) else 0.0


def judge_probes(
    model: keras.Model,
    features: PooledFeatures,
    probes: Sequence[LinearProbe],
    held_out: Dataset,
) -> JudgedProbes:
    """Lets probes answer pictures, in one pass over a dataset."""
    parts: list[tuple] = []
    losses = np.zeros((len(probes), len(SCALES)))
    first: tuple[np.ndarray, np.ndarray] | None = None
    for images, labels in labeled_batches(model, held_out):
        if not len(labels):
            continue
        first = first or (images[:TIMED], labels[:TIMED])
        answers, vectors = features(images)
        correct = np.empty((len(probes), len(labels)), bool)
        margins = np.empty((len(probes), len(labels)), "float32")
        for index, (probe, vector) in enumerate(zip(probes, vectors, strict=True)):
            scores = probe.scores(vector)
            second, highest = np.partition(scores, -2)[:, -2:].T
            correct[index] = scores.argmax(-1) == labels
            margins[index] = highest - second
            losses[index] += crossentropies(scores, labels)
        parts.append((correct, margins, answers.argmax(-1) == labels))
    if first is None:
        raise ValueError("There are no held-out pictures: the dataset is empty.")
    correct, margins, main_correct = (
        np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)
    )
    scales = SCALES[losses.argmin(-1)]
    return JudgedProbes(correct, margins, main_correct, scales, *first)


def fit_probes(
    model: keras.Model, features: PooledFeatures, train: Dataset
) -> list[LinearProbe]:
    """Fits a probe to each endpoint's features, in one pass over a dataset."""
    random = np.random.default_rng(0)
    sums: list[tuple[Sums, Sums]] = []  # to fit, and to choose the penalty
    for images, labels in labeled_batches(model, train):
        answers, vectors = features(images)
        classes = answers.shape[-1]
        sums = sums or [
            (Sums(vector.mean(0), classes), Sums(vector.mean(0), classes))
            for vector in vectors
        ]
        one_hot = np.eye(classes)[labels]
        back = random.random(len(labels)) < HELD_BACK
        for vector, (learned, held_back) in zip(vectors, sums, strict=True):
            learned.add(vector[~back], one_hot[~back])
            held_back.add(vector[back], one_hot[back])
    if not any(learned.count for learned, _ in sums):
        raise ValueError("There are no training pictures: the dataset is empty.")
    for vector in (learned.features for learned, _ in sums):
        if not np.isfinite(vector).all():
            raise ValueError(
                "The model's features are NaN or infinite on the training pictures; "
                "no probe can be fitted to them."
            )
    return [fit_probe(*pair) for pair in sums]
