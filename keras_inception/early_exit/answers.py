"""The answers of all outputs to labeled pictures: all that a calibration needs."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled
from keras_inception.early_exit.checks import check_images
from keras_inception.early_exit.confidence import MEASURES, softmax, tempered
from keras_inception.outputs import MAIN, main_of, output_activation

Dataset = Iterable[tuple] | tuple[np.ndarray, np.ndarray]
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
    for images, batch_labels in _batches(dataset):
        given = answer(check_images(model, images))
        collected.append([given[name] for name in names])
        indices = np.asarray(batch_labels)
        one_hot = indices.ndim == 2 and indices.shape[1] > 1
        labels.append(indices.argmax(-1) if one_hot else indices.reshape(-1))
    if not sum(map(len, labels)):
        raise ValueError("There are no pictures to calibrate on: the dataset is empty.")
    probabilities = map(np.concatenate, zip(*collected, strict=True))
    return Answers(dict(zip(names, probabilities, strict=True)), np.concatenate(labels))


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


def _batches(dataset: Dataset, batch_size: int = 256) -> Iterator[tuple]:
    if not (isinstance(dataset, tuple) and len(dataset) == 2):
        for images, labels, *_ in dataset:
            yield images, main_of(labels)
        return
    images, labels = dataset
    for start in range(0, len(labels), batch_size):
        batch = slice(start, start + batch_size)
        yield images[batch], labels[batch]
