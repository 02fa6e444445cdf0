"""The parts of a dataset: `Split`, `RecordSplit`, and choosing validation examples."""

import dataclasses
import functools
import io
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_inception.data.headers import read_header

_FILES_AT_ONCE = 16
_NO_LABELS = np.array([], "int32")


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

    @property
    def paths(self) -> list[str] | None:
        """The file of each example, `None` if there are no files."""
        # Paths are bytes: names of files need not be text.
        first = self.elements[0]
        return list(map(os.fsdecode, first)) if first.dtype.kind == "S" else None

    def name_of(self, position: int) -> str:
        """The file at a position, or the position itself if there are no files."""
        first = self.elements[0]
        is_path = first.dtype.kind == "S"
        return os.fsdecode(first[position]) if is_path else str(position)

    def examples(self, key: tf.Tensor | None = None) -> tf.data.Dataset:
        """Yields `(position, *element, label)`, shuffled by a key of two integers."""
        # captured as tensors, since constants of a graph are limited to 2 GB
        rows = [tf.constant(part) for part in (*self.elements, self.labels)]
        positions = order(len(self), key)
        return tf.data.Dataset.from_tensor_slices(positions).map(
            lambda position: (position, *(tf.gather(row, position) for row in rows))
        )


@dataclasses.dataclass(frozen=True)
class RecordSplit:
    """Encoded pictures in record files; has the methods of a `splits.Split`.

    Attributes:
        files: For each file: path, number of records to skip, number to take.
        parse: Turns a record's number and the record into `(position, contents,
            label)`, int64, string and int32.
        count: Number of examples.
        block: Number of records that are shuffled at a time.
        chosen: Whether the example at each position belongs to this split; `None` if
            all do.
        names: The file that each position was made from, or `None`.
        known_labels: Labels of this split's examples, if known without reading.
    """

    files: list[tuple[str, int, int]]
    parse: Callable[[tf.Tensor, tf.Tensor], tuple]
    count: int
    block: int
    chosen: np.ndarray | None = None
    names: list[str] | None = None
    known_labels: np.ndarray | None = None

    def __len__(self) -> int:
        return self.count

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Class index of each example, int32; reads the records unless it is known."""
        if self.known_labels is not None:
            return self.known_labels
        labels = self.examples().map(lambda position, contents, label: label)
        return np.concatenate([part.numpy() for part in labels.batch(4096)])

    def take(self, index: np.ndarray) -> "RecordSplit":
        """Selects examples by their places in this split, in the split's order."""
        members = np.ones(self.count, bool) if self.chosen is None else self.chosen
        chosen = np.zeros_like(members)
        chosen[np.flatnonzero(members)[index]] = True
        return dataclasses.replace(
            self,
            count=int(chosen.sum()),
            chosen=chosen,
            known_labels=self.labels[np.sort(index)] if len(index) else _NO_LABELS,
        )

    @property
    def paths(self) -> list[str] | None:
        """The file that each example was made from, `None` if unknown."""
        if self.names is None or self.chosen is None:
            return self.names
        return [self.names[place] for place in np.flatnonzero(self.chosen)]

    def name_of(self, position: int) -> str:
        """The file that an example was made from, or its position if unknown."""
        return str(position if self.names is None else self.names[position])

    def examples(self, key: tf.Tensor | None = None) -> tf.data.Dataset:
        """Yields `(position, contents, label)`, shuffled by a key of two integers.

        They determine the order of the files, several of which are read in turn, and
        of the records in each block.
        """
        paths, skips, takes = map(tf.constant, zip(*self.files, strict=True))
        starts = tf.cumsum(tf.cast(takes, tf.int64), exclusive=True)

        def examples_of(file: tf.Tensor) -> tf.data.Dataset:
            records = tf.data.TFRecordDataset(paths[file])
            records = records.skip(tf.cast(skips[file], tf.int64))
            records = records.take(tf.cast(takes[file], tf.int64))
            return records.enumerate(starts[file]).map(self.parse)

        dataset = tf.data.Dataset.from_tensor_slices(order(len(self.files), key))
        dataset = dataset.interleave(
            examples_of, 1 if key is None else min(len(self.files), _FILES_AT_ONCE)
        )
        if self.chosen is not None:
            chosen = tf.constant(self.chosen)
            dataset = dataset.filter(lambda position, *_: tf.gather(chosen, position))
        if key is None:
            return dataset

        def shuffled(number: tf.Tensor, block: tuple) -> tuple:
            block_key = tf.random.fold_in(key, number, alg="philox")
            places = tf.random.experimental.stateless_shuffle(
                tf.range(tf.shape(block[0])[0]), block_key, alg="philox"
            )
            return tuple(tf.gather(part, places) for part in block)

        return dataset.batch(self.block).enumerate().map(shuffled).unbatch()

    def measure(self, most: int = 256) -> np.ndarray:
        """Measures width and height of the first pictures, `(pictures, 2)`.

        Raises:
            ValueError: If none of them is in a format that `decoding` reads.
        """
        files = [x.numpy() for _, x, _ in self.examples().take(most)]
        # not by Pillow, which refuses large metadata that TensorFlow passes over
        headers = (read_header(io.BytesIO(file), len(file)) for file in files)
        sizes = [header.size for header in headers if header and min(header.size) > 0]
        if not sizes:
            raise ValueError(
                f"None of the first {len(files)} records of {self.files[0][0]} is a "
                "JPEG, PNG, GIF, BMP or WebP picture."
            )
        return np.array(sizes)


def order(count: int, key: tf.Tensor | None) -> tf.Tensor:
    """The positions 0..count-1, shuffled by a key of two integers unless it is None."""
    positions = tf.range(count, dtype=tf.int64)
    if key is None:
        return positions
    return tf.random.experimental.stateless_shuffle(positions, key, alg="philox")


def stratified(
    split: Split, class_names: Sequence[str], seed: int, validation_share: float
) -> tuple[Split, Split]:
    """Divides examples into training and validation by `validation_mask`."""
    mask = validation_mask(split.labels, class_names, seed, validation_share)
    return split.take(np.flatnonzero(~mask)), split.take(np.flatnonzero(mask))


def validation_mask(
    labels: np.ndarray, class_names: Sequence[str], seed: int, validation_share: float
) -> np.ndarray:
    """Chooses the same share of every class, at least one, as bool `(examples,)`.

    A share of 0 chooses none.
    """
    if not 0 <= validation_share < 1:
        raise ValueError(
            "validation_share must be at least 0 and less than 1. Received: "
            f"{validation_share}"
        )
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    if not validation_share:
        return chosen
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
