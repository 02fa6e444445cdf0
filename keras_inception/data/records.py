"""`RecordSplit`: a split read from the record files of TensorFlow Datasets (TFDS)."""

import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_inception.data.splits import order

# Records are shuffled in blocks of about this many bytes, which are held in memory.
_BLOCK_BYTES = 256 * 2**20
_FILES_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class RecordSplit:
    """Encoded pictures in record files; has the methods of a `splits.Split`.

    Attributes:
        files: For each file: path, number of records to skip, number to take.
        parse: Turns a record into `(position, contents, label)`; a position of None
            stands for the record's number.
        count: Number of examples.
        block: Number of records that are shuffled at a time.
        chosen: Whether the example at each position belongs to this split; `None` if
            all do.
        names: The file that each position was made from, or `None`.
        known_labels: Labels of this split's examples, if known without reading.
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
            known_labels=self.labels[np.sort(index)],
        )

    def name_of(self, position: int) -> str:
        """The file that an example was made from, or its position if unknown."""
        return str(position if self.names is None else self.names[position])

    def examples(self, key: tf.Tensor | None = None) -> tf.data.Dataset:
        """Yields `(position, contents, label)` of every example.

        Args:
            key: Two integers that determine the order: of the files, several of which
                are read in turn, and of the records in each block. `None` for the
                stored order.
        """
        paths, skips, takes = map(tf.constant, zip(*self.files, strict=True))
        starts = tf.cumsum(tf.cast(takes, tf.int64), exclusive=True)

        def examples_of(file: tf.Tensor) -> tf.data.Dataset:
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

        def shuffled(number: tf.Tensor, block: tuple) -> tuple:
            block_key = tf.random.fold_in(key, number, alg="philox")
            places = tf.random.experimental.stateless_shuffle(
                tf.range(tf.shape(block[0])[0]), block_key, alg="philox"
            )
            return tuple(tf.gather(part, places) for part in block)

        return dataset.batch(self.block).enumerate().map(shuffled).unbatch()

    def _parsed(self, number: tf.Tensor, record: tf.Tensor) -> tuple:
        position, contents, label = self.parse(record)
        return (
            number if position is None else tf.cast(position, tf.int64),
            contents,
            tf.cast(label, tf.int32),
        )

    def measure(self, most: int = 256) -> np.ndarray:
        """Measures width and height of the first pictures, `(pictures, 2)`."""
        sizes = []
        for _, contents, _ in self.examples().take(most):
            with Image.open(io.BytesIO(contents.numpy())) as picture:
                sizes.append(picture.size)
        return np.array(sizes)


def record_split(
    info: Any, parse: Callable[[tf.Tensor], tuple], **arguments: Any
) -> RecordSplit:
    """Makes a `RecordSplit` of a TFDS split, or of a slice of one.

    Args:
        info: The split's `tfds.core.SplitInfo`.
        parse, arguments: As in `RecordSplit`; `count` defaults to all examples.
    """
    files = [
        (
            str(part.filename),
            part.skip,
            part.examples_in_shard - part.skip if part.take < 0 else part.take,
        )
        for part in info.file_instructions
    ]
    count = info.num_examples
    mean_bytes = max(1, info.num_bytes) / max(1, count)
    block = int(np.clip(_BLOCK_BYTES / mean_bytes, 1, max(1, count)))
    return RecordSplit(files, parse, **{"count": count, "block": block} | arguments)


def records_directory(data_dir: str | Path | None) -> Path:
    """The folder of the records: `data_dir`, by default where TFDS keeps its own."""
    import tensorflow_datasets as tfds

    return Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
