"""What a model, or several together, make of labelled pictures."""

import dataclasses
import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import keras
import numpy as np

from keras_inception.evaluation.crops import take_crops
from keras_inception.outputs import MAIN

MISTAKES_KEPT = 25


class Mistake(NamedTuple):
    """A picture that was taken for another class.

    Attributes:
        index: Of the picture, in the order they came.
        picture: What the network saw of it, the centred square, uint8
            `(side, side, 3)`.
        label: The true class.
        predicted: The class that got the highest probability.
        probability: That probability.
    """

    index: int
    picture: np.ndarray
    label: int
    predicted: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Probabilities beside the truth.

    Attributes:
        probabilities: float32 `(pictures, classes)`.
        labels: True class of each picture, `(pictures,)`.
        class_names: Names in label order.
        mistakes: The most confident ones, worst first, at most 25.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    class_names: list[str]
    mistakes: list[Mistake] = dataclasses.field(default_factory=list)

    @property
    def predicted(self) -> np.ndarray:
        """The likeliest class of each picture, `(pictures,)`."""
        return self.probabilities.argmax(axis=1)

    def top(self, count: int) -> float:
        """Share of the pictures whose class is among the `count` likeliest.

        Example:
        >>> probabilities = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
        >>> scores = Evaluation(probabilities, np.array([2, 0]), ["a", "b", "c"])
        >>> scores.top(1), scores.top(2)
        (0.5, 1.0)
        """
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        return float((best == self.labels[:, None]).any(axis=1).mean())

    @property
    def confusion(self) -> np.ndarray:
        """How many pictures of each class (row) were taken for which (column)."""
        classes = len(self.class_names)
        table = np.zeros((classes, classes), int)
        np.add.at(table, (self.labels, self.predicted), 1)
        return table

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """Share of each class that was recognised, `(classes,)`; NaN without any."""
        table = self.confusion
        with np.errstate(invalid="ignore"):
            return table.diagonal() / table.sum(axis=1)


def predict_crops(
    models: Sequence[keras.Model],
    pictures: Iterable[np.ndarray],
    crops: int = 1,
    batch_size: int = 32,
) -> Iterator[np.ndarray]:
    """Softmax probabilities, averaged over a picture's crops and over the models.

    Args:
        models: Take raw RGB pixels in squares, which may differ in size, and return
            probabilities, or a dict of which `main` is taken.
        pictures: Pixels 0..255, each `(height, width, 3)` of its own size.
        crops: 1, 10 or 144 of each picture. Defaults to 1.
        batch_size: Crops that a model sees at a time. Defaults to 32.

    Yields:
        float32 `(classes,)` for each picture.

    Raises:
        ValueError: If there is no model, or one returns no probabilities.
    """
    if not models:
        raise ValueError("At least one model is needed to predict.")
    mains = [_main(model) for model in models]
    sides = [model.input.shape[1] for model in models]
    pictures = iter(pictures)
    while chunk := list(islice(pictures, max(1, batch_size // crops))):
        seen = {
            side: np.concatenate(
                [take_crops(picture, crops, side) for picture in chunk]
            )
            for side in dict.fromkeys(sides)
        }
        scores = [
            _probabilities(main, seen[side], batch_size)
            for main, side in zip(mains, sides, strict=True)
        ]
        together = np.mean(scores, axis=0).reshape(len(chunk), crops, -1)
        yield from together.mean(axis=1, dtype="float32")


def evaluate(
    models: Sequence[keras.Model],
    pictures: Iterable[tuple[np.ndarray, int]],
    class_names: Sequence[str],
    crops: int = 1,
    batch_size: int = 32,
) -> Evaluation:
    """Asks models about labelled pictures.

    Args:
        models: As `predict_crops`.
        pictures: Pairs of pixels 0..255 `(height, width, 3)` and class index; read
            once, one chunk at a time.
        class_names: Names in label order.
        crops: 1, 10 or 144 of each picture. Defaults to 1.
        batch_size: Crops that a model sees at a time. Defaults to 32.

    Raises:
        ValueError: If there is no picture or no model, or one returns no probabilities.

    Example:
    >>> model = ki.GoogLeNet((64, 64, 3), classes=2, width=0.125)
    >>> random = np.random.default_rng(0)
    >>> pictures = [(random.integers(0, 256, (80, 100, 3)), label) for label in (0, 1)]
    >>> evaluate([model], pictures, ["cat", "dog"], crops=10).probabilities.shape
    (2, 2)
    """
    waiting, labels, probabilities, worst = [], [], [], []

    def remembered():
        for picture, label in pictures:
            waiting.append(picture)
            labels.append(label)
            yield picture

    side = models[0].input.shape[1] if models else 0
    for scores in predict_crops(models, remembered(), crops, batch_size):
        picture, index = waiting.pop(0), len(probabilities)
        probabilities.append(scores)
        predicted, label = int(scores.argmax()), int(labels[index])
        if predicted == label:
            continue
        # sorted by probability, then by index, so that no two are equal
        entry = (float(scores[predicted]), -index)
        if len(worst) < MISTAKES_KEPT or entry > worst[0][:2]:
            square = take_crops(picture, 1, side)[0].round().astype("uint8")
            mistake = Mistake(index, square, label, predicted, entry[0])
            keep = heapq.heappush if len(worst) < MISTAKES_KEPT else heapq.heappushpop
            keep(worst, (*entry, mistake))
    if not labels:
        raise ValueError("There is no picture to evaluate on.")
    return Evaluation(
        np.stack(probabilities),
        np.array(labels),
        [str(name) for name in class_names],
        [mistake for *_, mistake in sorted(worst, key=lambda entry: entry[:2])[::-1]],
    )


def _main(model: keras.Model) -> keras.Model:
    if isinstance(model.output, dict):
        return keras.Model(model.input, model.output[MAIN])
    return model


def _probabilities(
    model: keras.Model, crops: np.ndarray, batch_size: int
) -> np.ndarray:
    scores = np.concatenate(
        [
            np.asarray(model.predict_on_batch(crops[start : start + batch_size]))
            for start in range(0, len(crops), batch_size)
        ]
    )
    if (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-2):
        raise ValueError(
            f"{model.name} returns no probabilities, which are what is averaged over "
            "crops and models: its outputs do not add up to 1. Build it with "
            "classifier_activation='softmax'."
        )
    return scores
