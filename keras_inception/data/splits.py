"""The parts of a dataset: `Split`, and dividing examples into training and validation.

A `records.RecordSplit` has the same methods and is accepted wherever a `Split` is.
"""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one part of a dataset (training or validation), not read yet.

    Attributes:
        elements: Arrays of equal length. One row of them, such as a path, is an
            element, which `Source.read` turns into a picture.
        labels: Class index of each example, int32 `(examples,)`.
    """

    elements: tuple[np.ndarray, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Split":
        """Selects the examples at these positions."""
        return Split(tuple(part[index] for part in self.elements), self.labels[index])

    def name_of(self, position: int) -> str:
        """The file at a position, or the position itself if there are no files."""
        first = self.elements[0]
        return str(first[position] if first.dtype.kind == "U" else position)

    def examples(self, key: tf.Tensor | None = None) -> tf.data.Dataset:
        """Yields `(position, *element, label)` of every example.

        Args:
            key: Two integers that determine the order; `None` for the stored order.
        """
        # captured as tensors, since constants of a graph are limited to 2 GB
        rows = [tf.constant(part) for part in (*self.elements, self.labels)]
        positions = order(len(self), key)
        return tf.data.Dataset.from_tensor_slices(positions).map(
            lambda position: (position, *(tf.gather(row, position) for row in rows))
        )


def order(count: int, key: tf.Tensor | None) -> tf.Tensor:
    """The positions 0..count-1, shuffled by a key of two integers unless it is None."""
    positions = tf.range(count, dtype=tf.int64)
    if key is None:
        return positions
    return tf.random.experimental.stateless_shuffle(positions, key, alg="philox")


def stratified(
    split: Split, class_names: list[str], seed: int, validation_share: float
) -> tuple[Split, Split]:
    """Divides examples into training and validation by `validation_mask`."""
    mask = validation_mask(split.labels, class_names, seed, validation_share)
    return split.take(np.flatnonzero(~mask)), split.take(np.flatnonzero(mask))


def validation_mask(
    labels: np.ndarray, class_names: list[str], seed: int, validation_share: float
) -> np.ndarray:
    """Chooses the validation examples: the same share of every class, at least one.

    Args:
        labels: Class index of each example, `(examples,)`.
        class_names: Names in label order.
        seed: Determines the choice.
        validation_share: Fraction of each class, 0 to 1.

    Returns:
        bool `(examples,)`, true for validation.

    Raises:
        ValueError: If a class has a single example, which can't be in both parts.
    """
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise ValueError(
                "Every class needs at least two pictures, one for training and one "
                f"for validation. {class_names[label]!r} has only one usable picture."
            )
        count = min(max(1, round(len(members) * validation_share)), len(members) - 1)
        chosen[members[:count]] = True
    return chosen


def balanced_class_weights(labels: np.ndarray) -> dict[int, float]:
    """Weights with which every class counts alike, however many pictures it has.

    Args:
        labels: Class index of each picture, `(pictures,)`.

    Returns:
        For each class that occurs, pictures / (classes * pictures of the class). The
        mean over the pictures is 1.

    Example:
    >>> balanced_class_weights(np.array([0, 0, 0, 1]))
    {0: 0.6666666666666666, 1: 2.0}
    """
    classes, counts = np.unique(labels, return_counts=True)
    weights = len(labels) / (len(classes) * counts)
    return dict(zip(classes.tolist(), weights.tolist(), strict=True))
