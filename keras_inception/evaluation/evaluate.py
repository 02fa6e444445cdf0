"""`evaluate`: the predictions of a model, or of several, beside the true classes."""

import dataclasses
import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import keras
import numpy as np

from keras_inception.evaluation.crops import take_crops
from keras_inception.outputs import main_of

MISTAKES_KEPT = 25


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A picture whose predicted class is wrong.

    Attributes:
        index: The picture's number, in the order of evaluation.
        picture: The centered square that the model takes, uint8
            `(input_size, input_size, 3)`.
        label: The true class.
        predicted: The class with the highest probability.
        probability: That probability.
    """

    index: int
    picture: np.ndarray
    label: int
    predicted: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Probabilities beside the true classes, and figures computed from them.

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
        """The most probable class of each picture, `(pictures,)`."""
        return self.probabilities.argmax(axis=1)

    def top(self, count: int) -> float:
        """Fraction of pictures whose class is among the `count` most probable.

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
        """Number of pictures by true class (row) and predicted class (column)."""
        classes = len(self.class_names)
        table = np.zeros((classes, classes), int)
        np.add.at(table, (self.labels, self.predicted), 1)
        return table

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """Recall of each class, `(classes,)`; NaN for a class without pictures."""
        table = self.confusion
        with np.errstate(invalid="ignore"):
            return table.diagonal() / table.sum(axis=1)

    @property
    def per_class(self) -> dict[str, np.ndarray]:
        """`"precision"`, `"recall"`, `"f1"` and `"pictures"` of each class.

        Arrays `(classes,)`, by scikit-learn. The precision of a class that was never
        predicted is 0; recall and F1 of a class without pictures are NaN.

        Example:
        >>> probabilities = np.array([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1]])
        >>> scores = Evaluation(probabilities, np.array([0, 0, 1]), ["a", "b"])
        >>> scores.per_class["precision"].tolist()
        [0.5, 0.0]
        """
        from sklearn.metrics import precision_recall_fscore_support

        classes = range(len(self.class_names))
        precision, recall, f1, pictures = precision_recall_fscore_support(
            self.labels, self.predicted, labels=classes, zero_division=0
        )
        recall[pictures == 0] = f1[pictures == 0] = np.nan
        names = ("precision", "recall", "f1", "pictures")
        return dict(zip(names, (precision, recall, f1, pictures), strict=True))

    @property
    def macro_averages(self) -> dict[str, float]:
        """Means of `"precision"`, `"recall"` and `"f1"` over classes with pictures."""
        scores = self.per_class
        present = scores.pop("pictures") > 0
        return {name: float(values[present].mean()) for name, values in scores.items()}


def predict_crops(
    models: Sequence[keras.Model],
    pictures: Iterable[np.ndarray],
    crops: int = 1,
    batch_size: int = 32,
) -> Iterator[np.ndarray]:
    """Predicts probabilities, averaged over a picture's crops and over the models.

    Args:
        models: Models that take raw RGB pixels in squares, each of its own input size,
            and return probabilities, or a dict whose `main` is used.
        pictures: Pixels 0..255, each `(height, width, 3)` of its own size.
        crops: 1, 10 or 144 for each picture. Defaults to 1.
        batch_size: Crops in a batch of a model. Defaults to 32.

    Yields:
        float32 `(classes,)` for each picture.

    Raises:
        ValueError: If there is no model, or one does not return probabilities.
    """
    if not models:
        raise ValueError("At least one model is needed to predict.")
    # without the heads, which would be computed in vain
    mains = [
        keras.Model(model.input, main_of(model.output), name=model.name)
        for model in models
    ]
    sizes = [model.input.shape[1] for model in models]
    pictures = iter(pictures)
    while chunk := list(islice(pictures, max(1, batch_size // crops))):
        inputs = {
            size: np.concatenate(
                [take_crops(picture, crops, size) for picture in chunk]
            )
            for size in dict.fromkeys(sizes)
        }
        scores = [
            _probabilities(main, inputs[size], batch_size)
            for main, size in zip(mains, sizes, strict=True)
        ]
        mean_over_models = np.mean(scores, axis=0).reshape(len(chunk), crops, -1)
        yield from mean_over_models.mean(axis=1, dtype="float32")


def evaluate(
    models: Sequence[keras.Model],
    pictures: Iterable[tuple[np.ndarray, int]],
    class_names: Sequence[str],
    crops: int = 1,
    batch_size: int = 32,
) -> Evaluation:
    """Predicts labeled pictures and keeps the most confident mistakes.

    Args:
        models: As in `predict_crops`.
        pictures: Pairs of pixels 0..255 `(height, width, 3)` and class index; read
            once, one batch at a time.
        class_names: Names in label order.
        crops: 1, 10 or 144 for each picture. Defaults to 1.
        batch_size: Crops in a batch of a model. Defaults to 32.

    Raises:
        ValueError: If there is no picture or no model, or one does not return
            probabilities.

    Example:
    >>> model = ki.GoogLeNet((64, 64, 3), classes=2, width=0.125)
    >>> random = np.random.default_rng(0)
    >>> pictures = [(random.integers(0, 256, (80, 100, 3)), label) for label in (0, 1)]
    >>> evaluate([model], pictures, ["cat", "dog"], crops=10).probabilities.shape
    (2, 2)
    """
    pending: deque[np.ndarray] = deque()
    labels: list[int] = []
    probabilities: list[np.ndarray] = []
    worst: list[tuple[float, int, Mistake]] = []  # a heap, the least confident first

    def without_labels() -> Iterator[np.ndarray]:
        for picture, label in pictures:
            pending.append(picture)
            labels.append(int(label))
            yield picture

    input_size = models[0].input.shape[1] if models else 0
    for scores in predict_crops(models, without_labels(), crops, batch_size):
        picture, index = pending.popleft(), len(probabilities)
        probabilities.append(scores)
        predicted, label = int(scores.argmax()), labels[index]
        probability = float(scores[predicted])
        # of equal probabilities the earlier picture is the worse mistake
        rank = (probability, -index)
        full = len(worst) == MISTAKES_KEPT
        if predicted == label or (full and rank < worst[0][:2]):
            continue
        square = take_crops(picture, 1, input_size)[0].round().astype("uint8")
        mistake = Mistake(index, square, label, predicted, probability)
        (heapq.heappushpop if full else heapq.heappush)(worst, (*rank, mistake))
    if not labels:
        raise ValueError("There is no picture to evaluate on.")
    return Evaluation(
        np.stack(probabilities),
        np.array(labels),
        [str(name) for name in class_names],
        [mistake for *_, mistake in sorted(worst, key=lambda x: x[:2], reverse=True)],
    )


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
            f"{model.name} does not return probabilities: its outputs do not add up to "
            "1. Only probabilities can be averaged over crops and models. Build the "
            "model with classifier_activation='softmax'."
        )
    return scores
