"""Splits that are read from TensorFlow Datasets' record files."""

import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_inception.data.pictures import decode, decode_window
from keras_inception.data.splits import order

# Records are shuffled in blocks of about this many bytes, which are held in memory.
_BLOCK_BYTES = 256 * 2**20
_FILES_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class RecordSplit:
    """Encoded pictures in record files; stands where a `Split` stands.

    Attributes:
        files: Path, records to skip and records to take, for each file.
        parse: From a record to `(position, contents, label)`; the position is given
            where it is None.
        count: How many examples there are.
        block: How many records are shuffled at a time.
        chosen: Whether the example at each position belongs to this split; `None`: all.
        names: What each position is called, or `None`.
        known_labels: Labels of the examples of this split, if they are at hand.
    """

    files: list[tuple[str, int, int]]
    parse: Callable[[tf.Tensor], tuple]
    count: int
    block: int
    chosen: np.ndarray | None = None
    names: list[str] | None = None
    known_labels: np.ndarray | None = None

    def __len__(self) -> int:
        return self.count

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Class index of each example, int32; reads the records if need be."""
        if self.known_labels is not None:
            return self.known_labels
        labels = self.examples().map(lambda position, contents, label: label)
        return np.concatenate([part.numpy() for part in labels.batch(4096)])

    def take(self, index: np.ndarray) -> "RecordSplit":
        """The examples at these places among this split's, in their order."""
        of_split = np.ones(self.count, bool) if self.chosen is None else self.chosen
        chosen = np.zeros(len(of_split), bool)
        chosen[np.flatnonzero(of_split)[index]] = True
        return dataclasses.replace(
            self,
            count=int(chosen.sum()),
            chosen=chosen,
            known_labels=self.labels[np.sort(index)],
        )

    def name_of(self, position: int) -> str:
        """The file that an example was made from, else its position."""
        return str(position if self.names is None else self.names[position])

    def examples(self, key: tf.Tensor | None = None) -> tf.data.Dataset:
        """`(position, contents, label)` of every example.

        Args:
            key: Two integers that the order is a function of, or `None`: the files in
                another order, several read in turn, and blocks of records shuffled.
        """
        paths, skips, takes = map(tf.constant, zip(*self.files, strict=True))
        starts = tf.cumsum(tf.cast(takes, tf.int64), exclusive=True)

        def examples_of(file):
            records = tf.data.TFRecordDataset(paths[file])
            records = records.skip(tf.cast(skips[file], tf.int64))
            records = records.take(tf.cast(takes[file], tf.int64))
            return records.enumerate(starts[file]).map(self._parsed)

        dataset = tf.data.Dataset.from_tensor_slices(order(len(self.files), key))
        dataset = dataset.interleave(
            examples_of, 1 if key is None else min(len(self.files), _FILES_AT_ONCE)
        )
        if self.chosen is not None:
            chosen = tf.constant(self.chosen)
            dataset = dataset.filter(lambda position, *_: tf.gather(chosen, position))
        if key is None:
            return dataset

        def shuffled(number, block):
            count = tf.shape(block[0])[0]
            block_key = tf.random.fold_in(key, number, alg="philox")
            places = tf.random.experimental.stateless_shuffle(
                tf.range(count), block_key, alg="philox"
            )
            return tuple(tf.gather(part, places) for part in block)

        blocks = dataset.batch(self.block).enumerate()
        return blocks.map(lambda number, block: shuffled(number, block)).unbatch()

    def _parsed(self, number, record):
        position, contents, label = self.parse(record)
        return (
            number if position is None else tf.cast(position, tf.int64),
            contents,
            tf.cast(label, tf.int32),
        )


def record_files(split_info) -> list[tuple[str, int, int]]:
    """Path, records to skip and to take of a TFDS split, or of a slice of one."""
    return [
        (
            str(part.filename),
            part.skip,
            part.examples_in_shard - part.skip if part.take < 0 else part.take,
        )
        for part in split_info.file_instructions
    ]


def block_size(split_info) -> int:
    """How many of a split's records fit into a block."""
    mean = max(1, split_info.num_bytes) / max(1, split_info.num_examples)
    return int(np.clip(_BLOCK_BYTES / mean, 1, max(1, split_info.num_examples)))


def read(contents: tf.Tensor) -> tf.Tensor:
    """`Source.read` of records."""
    return decode(contents)


def read_window(contents: tf.Tensor, window, side: int) -> tf.Tensor:
    """`Source.read_window` of records."""
    return decode_window(contents, window, side)


def measure(split: RecordSplit, most: int = 256) -> np.ndarray:
    """Width and height of the first pictures, `(pictures, 2)`."""
    sizes = []
    for _, contents, _ in split.examples().take(most):
        with Image.open(io.BytesIO(contents.numpy())) as picture:
            sizes.append(picture.size)
    return np.array(sizes)


def import_tfds():
    """TensorFlow Datasets, which is imported where it is needed alone."""
    import tensorflow_datasets as tfds

    return tfds


def records_directory(data_dir: str | Path | None) -> Path:
    """Where records are kept: what was given, else where TFDS keeps its own."""
    return Path(data_dir or import_tfds().core.constants.DATA_DIR).expanduser()
