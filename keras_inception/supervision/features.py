"""Features of a dataset: a trunk's outputs for it, kept in temporary files."""

import contextlib
import operator
import shutil
import tempfile
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled


class Features(NamedTuple):
    """Features and labels of a dataset, in its order.

    Attributes:
        arrays: One array `(examples, ...)` for each output of the trunk. They are in
            temporary files that disappear with the process: they need disk space, and
            only use memory that is free.
        labels: The labels, or `None` if the dataset has none.
    """

    arrays: list[np.ndarray]
    labels: np.ndarray | None


def compute_features(trunk: keras.Model, dataset: Iterable) -> Features:
    """Computes a trunk's features, at inference, for one pass over a dataset.

    Args:
        trunk: A functional model, such as the `trunk` of `split_frozen`.
        dataset: Batches of `(inputs, labels)` or of inputs alone: a `tf.data` or
            PyTorch pipeline, a list of arrays, a generator.

    Raises:
        ValueError: If the dataset is empty, or has sample weights.
        OSError: If the directory of temporary files (`TMPDIR`) has too little room.
    """
    forward, inputs = compiled(trunk), trunk.inputs
    made, kept_labels, count = list[np.ndarray](), list[np.ndarray](), 0
    with contextlib.ExitStack() as stack:
        # Files without a name, so that a killed process leaves nothing behind.
        files: list[IO[bytes]] = [
            stack.enter_context(tempfile.TemporaryFile()) for _ in trunk.outputs
        ]
        for batch in dataset:
            images, labels = _images_and_labels(batch)
            tensors = [
                ops.convert_to_tensor(np.asarray(value), tensor.dtype)
                for value, tensor in zip(
                    keras.tree.flatten(images), inputs, strict=True
                )
            ]
            is_first = not made
            made = [ops.convert_to_numpy(values) for values in forward(tensors)]
            if is_first:
                batches = operator.length_hint(dataset, 1)
                check_room(batches * sum(rows.nbytes for rows in made))
            for file, rows in zip(files, made, strict=True):
                _write(file, rows)
            count += len(made[0])
            if labels is not None:
                kept_labels.append(np.asarray(labels))
        if not made:
            raise ValueError("The dataset has no batch to compute features of.")
        arrays: list[np.ndarray] = [
            np.memmap(file, rows.dtype, "r", shape=(count, *rows.shape[1:]))
            for file, rows in zip(files, made, strict=True)
        ]
    return Features(arrays, np.concatenate(kept_labels) if kept_labels else None)


def check_room(need: int) -> None:
    """Raises an `OSError` if `need` bytes of features do not fit on the disk."""
    directory = tempfile.gettempdir()
    free = shutil.disk_usage(directory).free
    if need > free:
        raise OSError(
            f"The features need {need / 1e9:.1f} GB, but {directory} has only "
            f"{free / 1e9:.1f} GB free. {_CURE}"
        )


_CURE = "Free space, or set the environment variable TMPDIR to another directory."


def _images_and_labels(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, tuple | list):
        return batch, None
    if len(batch) > 2:
        raise ValueError(
            "Features are kept with one label or none; the batches of this dataset "
            f"have {len(batch)} parts, as with sample weights."
        )
    return batch[0], batch[1] if len(batch) == 2 else None


def _write(file: IO[bytes], rows: np.ndarray) -> None:
    try:
        file.write(rows.tobytes())
        file.flush()
    except OSError as error:
        directory = tempfile.gettempdir()
        raise OSError(
            f"{directory} cannot hold the features: {error}. {_CURE}"
        ) from error
