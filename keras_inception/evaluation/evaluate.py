"""`evaluate`: the predictions of a model, or of several, beside the true classes."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, tee

import keras
import numpy as np

from keras_inception.evaluation.crops import take_crops
from keras_inception.outputs import main_output

MISTAKES_KEPT = 25


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A picture whose predicted class is wrong.

    Attributes:
        index: The picture's number, in the order of evaluation.
        picture: The square that the model takes, uint8 `(input_size, input_size, 3)`.
        label: The true class.
        predicted: The most probable class.
        probability: Its probability.
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
        return self.per_class["recall"]

    @property
    def per_class(self) -> dict[str, np.ndarray]:
        """`"precision"`, `"recall"`, `"f1"` and `"pictures"` of each class.

        Arrays `(classes,)`, by scikit-learn. The precision of a class that was never
        predicted is 0; recall and F1 of a class without pictures are NaN.
        """
        from sklearn.metrics import precision_recall_fscore_support

        classes = range(len(self.class_names))
        figures = precision_recall_fscore_support(
            self.labels, self.predicted, labels=classes, zero_division=0
        )
        precision, recall, f1, pictures = figures
        recall[pictures == 0] = f1[pictures == 0] = np.nan
        return {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "pictures": pictures,
        }

    @property
    def macro_averages(self) -> dict[str, float]:
        """Means of `"precision"`, `"recall"` and `"f1"` over classes with pictures."""
        scores = self.per_class
        present = scores.pop("pictures") > 0
        return {name: float(values[present].mean()) for name, values in scores.items()}


def accuracy_interval(accuracy: float, pictures: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy that was measured on some pictures.

    Wilson's interval (J. Am. Stat. Assoc. 22, 1927), by SciPy: other pictures of the
    same kind would give an accuracy within it 19 times in 20.

    Example:
    >>> [round(bound, 3) for bound in accuracy_interval(0.9, 40)]
    [0.769, 0.96]
    """
    from scipy.stats import binomtest

    test = binomtest(round(accuracy * pictures), pictures)
    low, high = test.proportion_ci(confidence_level=0.95, method="wilson")
    return float(low), float(high)


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
        crops: 1, 10 or 144 crops of each picture. Defaults to 1.
        batch_size: Crops per batch. Defaults to 32.

    Yields:
        float32 `(classes,)` for each picture.

    Raises:
        ValueError: If there is no model, or one does not return probabilities.
    """
    if not models:
        raise ValueError("At least one model is needed to predict.")
    # without the heads, which would be computed in vain
    mains = [keras.Model(m.inputs[0], main_output(m), name=m.name) for m in models]
    sizes = [model.input.shape[1] for model in models]
    pictures = iter(pictures)
    while chunk := list(islice(pictures, max(1, batch_size // crops))):
        inputs = {
            size: np.concatenate([take_crops(p, crops, size) for p in chunk])
            for size in set(sizes)
        }
        scores = [
            _scores(main, inputs[size], batch_size)
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
        models, crops, batch_size: As in `predict_crops`.
        pictures: Pairs of pixels 0..255 `(height, width, 3)` and class index; read
            once, one batch at a time.
        class_names: Names in label order.

    Raises:
        ValueError: If there is no picture, or as `predict_crops` does.

    Example:
    >>> model = ki.GoogLeNet((64, 64, 3), classes=2, width=0.125)
    >>> random = np.random.default_rng(0)
    >>> pictures = [(random.integers(0, 256, (80, 100, 3)), label) for label in (0, 1)]
    >>> evaluate([model], pictures, ["cat", "dog"], crops=10).probabilities.shape
    (2, 2)
    """
    pairs, copies = tee(pictures)
    inputs = (picture for picture, _ in copies)
    predictions = predict_crops(models, inputs, crops, batch_size)
    labels, probabilities = [], []
    worst: list[Mistake] = []
    for scores, (picture, label) in zip(predictions, pairs, strict=True):
        labels.append(int(label))
        probabilities.append(scores)
        predicted, probability = int(scores.argmax()), float(scores.max())
        full = len(worst) == MISTAKES_KEPT
        if predicted == label or (full and probability <= worst[-1].probability):
            continue
        square = take_crops(picture, 1, models[0].input.shape[1])[0]
        square, index = square.round().astype("uint8"), len(labels) - 1
        worst.append(Mistake(index, square, int(label), predicted, probability))
        worst.sort(
            key=lambda mistake: -mistake.probability
        )  # keeps the order of equals
        del worst[MISTAKES_KEPT:]
    if not labels:
        raise ValueError("There is no picture to evaluate on.")
    names = [str(name) for name in class_names]
    return Evaluation(np.stack(probabilities), np.array(labels), names, worst)


def _scores(model: keras.Model, crops: np.ndarray, batch_size: int) -> np.ndarray:
    starts = range(0, len(crops), batch_size)
    batches = [crops[start : start + batch_size] for start in starts]
    scores = np.concatenate([np.asarray(model.predict_on_batch(b)) for b in batches])
    if (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-2):
        raise ValueError(
            f"{model.name} does not return probabilities: its outputs do not add up to "
            "1. Only probabilities can be averaged over crops and models. Build the "
            "model with classifier_activation='softmax'."
        )
    return scores
