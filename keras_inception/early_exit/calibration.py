"""Which thresholds to use, and their effect on accuracy and computation."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled
from keras_inception.early_exit import search
from keras_inception.early_exit.checks import check_images
from keras_inception.early_exit.confidence import (
    MEASURES,
    fit_temperature,
    softmax,
    tempered,
)
from keras_inception.graph import multiply_adds_by_step
from keras_inception.outputs import MAIN, main_of, output_activation

CURVE_POINTS = 100  # at most, of a calibration's curve

Dataset = Iterable[tuple] | tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """The effect of one choice of thresholds on the calibration pictures.

    Attributes:
        thresholds: Of the exits that are used.
        accuracy: Share of correct answers.
        multiply_adds: Mean per picture.
        shares: Share of the pictures that each output answers.
    """

    thresholds: dict[str, float]
    accuracy: float
    multiply_adds: float
    shares: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The result of `EarlyExit.calibrate`.

    Attributes:
        examples: The number of pictures.
        max_accuracy_drop: The largest accuracy drop that was allowed.
        chosen: The cheapest point within the allowed drop.
        best: The most accurate point.
        main: The point without exits.
        curve: The Pareto front of multiply-adds and accuracy, from cheap to accurate,
            thinned to at most 100 points.
        exit_accuracy: Each output's accuracy on all pictures.
        overthought: Share of the pictures that main gets wrong and some exit right.
        temperatures: Of the chosen exits; empty where temperatures save nothing.
    """

    examples: int
    max_accuracy_drop: float
    chosen: OperatingPoint
    best: OperatingPoint
    main: OperatingPoint
    curve: list[OperatingPoint]
    exit_accuracy: dict[str, float]
    overthought: float
    temperatures: dict[str, float]

    @property
    def raises_accuracy(self) -> bool:
        """Whether the chosen exits are correct more often than main alone."""
        return self.chosen.accuracy > self.main.accuracy

    def as_dict(self) -> dict[str, object]:
        """All figures, nested, as JSON can hold them."""
        return dataclasses.asdict(self) | {"raises_accuracy": self.raises_accuracy}


def calibrate(
    model: keras.Model,
    exits: Sequence[str],
    dataset: Dataset,
    max_accuracy_drop: float,
    confidence: str,
) -> Calibration:
    """Finds the thresholds with the fewest multiply-adds for an allowed drop.

    The exits are in network order; the rest is as in `EarlyExit.calibrate`.
    """
    names = [*exits, MAIN]
    probabilities, labels = _collect_answers(model, names, dataset)
    correct = {name: probabilities[name].argmax(-1) == labels for name in names}
    accuracy = {name: float(correct[name].mean()) for name in names}
    cost = answer_cost(model, exits)

    def trade_off(temperatures: Mapping[str, float]) -> list[OperatingPoint]:
        answers = [tempered(probabilities[n], temperatures.get(n, 1.0)) for n in exits]
        confidences = list(map(MEASURES[confidence], answers))
        grid = search.evaluate_grid(confidences, list(correct.values()), cost)
        return [_point(grid, names, cell) for cell in grid.pareto_front()]

    def cheapest(curve: list[OperatingPoint]) -> OperatingPoint:
        least = accuracy[MAIN] - max_accuracy_drop - 1e-9
        return next(point for point in curve if point.accuracy >= least)

    # Temperatures are used only if they make the choice cheaper.
    curve, temperatures = trade_off({}), dict[str, float]()
    fitted = {name: fit_temperature(probabilities[name], labels) for name in exits}
    tempered_curve = trade_off(fitted)
    if cheapest(tempered_curve).multiply_adds < cheapest(curve).multiply_adds:
        curve, temperatures = tempered_curve, fitted
    chosen = cheapest(curve)
    some_exit_correct = np.any([correct[name] for name in exits], axis=0)
    main_cost = cost([False] * len(exits), len(exits))
    kept = np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).astype(int))
    return Calibration(
        examples=len(labels),
        max_accuracy_drop=max_accuracy_drop,
        chosen=chosen,
        best=curve[-1],
        main=OperatingPoint({}, accuracy[MAIN], main_cost, {MAIN: 1.0}),
        curve=[curve[index] for index in kept],
        exit_accuracy=accuracy,
        overthought=float(np.mean(some_exit_correct & ~correct[MAIN])),
        temperatures={n: temperatures[n] for n in chosen.thresholds if temperatures},
    )


def stratified_halves(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pictures that choose thresholds, and of those that check them.

    Each half gets half of every class.
    """
    random = np.random.default_rng(seed)
    checks = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        checks[members[: round(len(members) / 2)]] = True
    return np.flatnonzero(~checks), np.flatnonzero(checks)


def puts_out_logits(model: keras.Model) -> bool:
    """Whether a model's outputs are logits, judged by its main output."""
    return output_activation(model.output[MAIN]) == "linear"


def _collect_answers(
    model: keras.Model, names: Sequence[str], dataset: Dataset
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Each output's probabilities `(pictures, classes)`, and the class indices."""
    outputs = [model.output[name] for name in names]
    forward = compiled(keras.Model([model.inputs[0]], outputs))
    collected: list[list[np.ndarray]] = []
    labels = []
    for images, batch_labels in _batches(dataset):
        images = check_images(model, images)
        batch = ops.convert_to_tensor(images, model.inputs[0].dtype)
        collected.append([ops.convert_to_numpy(answer) for answer in forward([batch])])
        indices = np.asarray(batch_labels)
        one_hot = indices.ndim == 2 and indices.shape[1] > 1
        labels.append(indices.argmax(-1) if one_hot else indices.reshape(-1))
    if not sum(map(len, labels)):
        raise ValueError("There are no pictures to calibrate on: the dataset is empty.")
    answers = [np.concatenate(parts) for parts in zip(*collected, strict=True)]
    if puts_out_logits(model):
        answers = [softmax(logits) for logits in answers]
    return dict(zip(names, answers, strict=True)), np.concatenate(labels)


def _batches(dataset: Dataset, batch_size: int = 256) -> Iterator[tuple]:
    if not (isinstance(dataset, tuple) and len(dataset) == 2):
        for images, labels, *_ in dataset:
            yield images, main_of(labels)
        return
    images, labels = dataset
    for start in range(0, len(labels), batch_size):
        batch = slice(start, start + batch_size)
        yield images[batch], labels[batch]


def answer_cost(model: keras.Model, exits: Sequence[str]) -> search.Cost:
    """Multiply-adds of an answer, including the heads of the used exits before it."""

    @functools.cache
    def cost_of(*outputs: str) -> float:
        tensors = [model.output[name] for name in outputs]
        return float(sum(multiply_adds_by_step(model, *tensors)))

    def cost(used: Sequence[bool], answer: int) -> float:
        # An exit that is not used answers no picture: its cost does not matter.
        main = [MAIN] if answer == len(exits) else []
        return cost_of(*itertools.compress(exits[: answer + 1], used), *main)

    return cost


def _point(grid: search.Grid, names: list[str], cell: int) -> OperatingPoint:
    shares = {
        name: float(share.ravel()[cell])
        for name, share in zip(names, grid.shares, strict=True)
    }
    thresholds = dict(zip(names[:-1], grid.thresholds(cell), strict=True))
    return OperatingPoint(
        # An exit where no picture leaves is not computed.
        {name: level for name, level in thresholds.items() if shares[name]},
        float(grid.accuracy.ravel()[cell]),
        float(grid.cost.ravel()[cell]),
        {name: share for name, share in shares.items() if share},
    )
