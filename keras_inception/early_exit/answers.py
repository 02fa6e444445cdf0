"""The answers of all outputs to labeled pictures: all that a calibration needs."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled
from keras_inception.batches import Dataset, labeled_batches
from keras_inception.early_exit.confidence import MEASURES, softmax, tempered
from keras_inception.outputs import MAIN, output_activation

Answer = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Answers:
    """The answers of every output, in network order, and the labels.

    Attributes:
        probabilities: `(pictures, classes)` by output, main last.
        labels: Class indices `(pictures,)`.
    """

    probabilities: dict[str, np.ndarray]
    labels: np.ndarray

    @functools.cached_property
    def correct(self) -> dict[str, np.ndarray]:
        """Which answers are right, `(pictures,)` by output."""
        answers = self.probabilities.items()
        return {name: given.argmax(-1) == self.labels for name, given in answers}

    @property
    def exits(self) -> list[str]:
        """The outputs before main."""
        return [name for name in self.probabilities if name != MAIN]

    def take(self, rows: np.ndarray) -> "Answers":
        """The answers to some of the pictures."""
        answers = self.probabilities.items()
        return Answers({n: given[rows] for n, given in answers}, self.labels[rows])

    def halves(self, seed: int = 0) -> tuple["Answers", "Answers"]:
        """The answers to two halves of the pictures, see `stratified_halves`.

        Raises:
            ValueError: If there is only one picture.
        """
        if len(self.labels) < 2:
            raise ValueError(
                "One half of the pictures chooses thresholds and the other judges "
                f"them: at least 2 are needed. Received: {len(self.labels)}"
            )
        first, second = stratified_halves(self.labels, seed)
        if not len(second):  # no class has two pictures
            shuffled = np.random.default_rng(seed).permutation(len(self.labels))
            first, second = np.array_split(shuffled, 2)
        return self.take(first), self.take(second)

    def confidences(
        self, measure: str, temperatures: Mapping[str, float]
    ) -> dict[str, np.ndarray]:
        """How confident each exit is, `(pictures,)`."""
        return {
            name: MEASURES[measure](
                tempered(self.probabilities[name], temperatures.get(name, 1.0))
            )
            for name in self.exits
        }


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


def collect_answers(
    model: keras.Model,
    names: Sequence[str],
    dataset: Dataset,
    answer: Answer | None = None,
) -> Answers:
    """Collects the answers of the named outputs, in network order and with main.

    `answer` replaces the model's own: from images to probabilities by output.
    """
    answer = answer or _probabilities_of(model, names)
    collected: list[list[np.ndarray]] = []
    labels = []
    for images, indices in labeled_batches(model, dataset):
        given = answer(images)
        collected.append([given[name] for name in names])
        labels.append(indices)
    if not sum(map(len, labels)):
        raise ValueError("There are no pictures to calibrate on: the dataset is empty.")
    parts = map(np.concatenate, zip(*collected, strict=True))
    probabilities = dict(zip(names, parts, strict=True))
    for name, part in probabilities.items():
        if broken := int((~np.isfinite(part)).any(-1).sum()):
            raise ValueError(
                f"{name} answers {broken} of {len(part)} pictures with numbers that "
                "are not finite. Look for NaN in the pictures or the weights."
            )
    return Answers(probabilities, np.concatenate(labels))


def puts_out_logits(model: keras.Model) -> bool:
    """Whether a model's outputs are logits, judged by its main output."""
    return output_activation(model.output[MAIN]) == "linear"


def _probabilities_of(model: keras.Model, names: Sequence[str]) -> Answer:
    outputs = [model.output[name] for name in names]
    forward = compiled(keras.Model([model.inputs[0]], outputs))
    logits = puts_out_logits(model)

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        batch = ops.convert_to_tensor(images, model.inputs[0].dtype)
        given = map(ops.convert_to_numpy, forward([batch]))
        return {
            name: softmax(values) if logits else values
            for name, values in zip(names, given, strict=True)
        }

    return answer
