"""Labelled pictures, found and checked, before they are read."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_inception.data.bad_pictures import BadPictures

SHIFT = 1 / 8  # of the side: 4 of 32 pixels, as is usual for small pictures


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples before they are read.

    Attributes:
        elements: Arrays of equal length; `read` turns one row of them into a picture.
        labels: Class index of each example, int32 `(examples,)`.
    """

    elements: tuple[np.ndarray, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Split":
        """The examples at these positions."""
        return Split(tuple(part[index] for part in self.elements), self.labels[index])

    def name_of(self, position: int) -> str:
        """The file at a position, or the position if pictures come from no files."""
        first = self.elements[0]
        return str(first[position] if first.dtype.kind == "U" else position)

    def examples(self, key: tf.Tensor | None = None) -> tf.data.Dataset:
        """`(position, *element, label)` of every example.

        Args:
            key: Two integers that the order is a function of; `None`: as they come.
        """
        # by reference: a graph can't hold more than 2 GB of constants
        rows = [tf.constant(part) for part in (*self.elements, self.labels)]
        positions = order(len(self), key)
        return tf.data.Dataset.from_tensor_slices(positions).map(
            lambda position: (position, *(tf.gather(row, position) for row in rows))
        )


def order(count: int, key: tf.Tensor | None) -> tf.Tensor:
    """The positions 0..count-1, as they come or shuffled by a key of two integers."""
    positions = tf.range(count, dtype=tf.int64)
    if key is None:
        return positions
    return tf.random.experimental.stateless_shuffle(positions, key, alg="philox")


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled pictures, found and checked, not yet read.

    Attributes:
        name: For run directories and reports.
        class_names: Names in label order.
        train: Examples to learn from.
        validation: Examples held out.
        read: Turns one element into uint8 RGB pixels, in TensorFlow operations.
        read_window: The same for the part that a `Window` chooses: takes an element,
            the window and the side in pixels that the part will be resized to.
        picture_size: Median of the pictures' shorter sides in pixels.
        sizes: Width and height of the pictures that were measured, `(pictures, 2)`.
        mirror: Whether a mirrored picture still shows its class; not so for digits.
        shift: How far `basic` augmentation may shift them, in parts of the side.
        bad: The files that were skipped because they can't be decoded.
        may_be_damaged: Whether a picture may turn out to be damaged when it is read.
    """

    name: str
    class_names: list[str]
    train: Split
    validation: Split
    read: Callable[..., tf.Tensor]
    read_window: Callable[..., tf.Tensor]
    sizes: np.ndarray
    mirror: bool = True
    shift: float = SHIFT
    bad: BadPictures = dataclasses.field(default_factory=BadPictures)
    may_be_damaged: bool = False

    @property
    def picture_size(self) -> int:
        return int(np.median(self.sizes.min(axis=1)))


def stratified(
    split: Split, class_names: list[str], *, seed: int, share: float
) -> tuple[Split, Split]:
    """Parts examples in two, the same share of every class in the second part.

    Raises:
        ValueError: If a class has a single example, which can't be on both sides.
    """
    held_out = stratified_mask(split.labels, class_names, seed=seed, share=share)
    return split.take(np.flatnonzero(~held_out)), split.take(np.flatnonzero(held_out))


def stratified_mask(
    labels: np.ndarray, class_names: list[str], *, seed: int, share: float
) -> np.ndarray:
    """Which examples are held out: the same share of every class, at least one.

    Raises:
        ValueError: If a class has a single example, which can't be on both sides.
    """
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise ValueError(
                "Every class needs at least two pictures, one to learn from and one "
                f"to hold out. {class_names[label]!r} has a single good one."
            )
        count = min(max(1, round(len(members) * share)), len(members) - 1)
        held_out[members[:count]] = True
    return held_out


def balanced_class_weights(labels: np.ndarray) -> dict[int, float]:
    """Weights that let every class count alike, however many pictures it has.

    Args:
        labels: Class index of each picture, `(pictures,)`.

    Returns:
        For each class that occurs, pictures / (classes * pictures of the class): the
        mean over the pictures is 1.

    Example:
    >>> balanced_class_weights(np.array([0, 0, 0, 1]))
    {0: 0.6666666666666666, 1: 2.0}
    """
    classes, counts = np.unique(labels, return_counts=True)
    weights = len(labels) / (len(classes) * counts)
    return dict(zip(classes.tolist(), weights.tolist(), strict=True))
