"""Datasets as checked batches of pictures and class indices."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_inception.outputs import MAIN, main_of, outputs_by_name
from keras_inception.text import list_names

# Batches of (images, labels), or one such pair of arrays.
Dataset = Iterable[tuple] | tuple[np.ndarray, np.ndarray]


def labeled_batches(
    model: keras.Model, dataset: Dataset, batch_size: int = 256
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields a dataset's batches as arrays: images, and class indices `(batch,)`.

    Args:
        model: A classifier with one input; its main output has the classes.
        dataset: Batches of `(images, labels)`, or one such pair of arrays. Labels are
            class indices or one-hot.
        batch_size: Of a pair of arrays. Defaults to 256.

    Raises:
        ValueError: If images or labels do not fit the model.
    """
    classes = outputs_by_name(model)[MAIN].shape[-1]
    for images, labels in _pairs(dataset, batch_size):
        images, indices = check_images(model, images), _indices(labels, classes)
        _check_lengths(images, indices)
        yield images, indices


def check_images(model: keras.Model, images: Any) -> np.ndarray:
    """Returns a batch as an array; raises a `ValueError` if its shape does not fit."""
    images = np.asarray(images)
    expected = tuple(model.inputs[0].shape)
    sizes = zip(expected[1:], images.shape[1:], strict=False)
    if images.ndim != len(expected) or any(e not in (None, size) for e, size in sizes):
        raise ValueError(
            f"The model takes a batch of shape {expected}. Received: {images.shape}"
        )
    return images


def _check_lengths(images: Any, labels: Any) -> None:
    if len(images) != len(labels):
        raise ValueError(
            f"Each picture needs a label. Received {len(images)} pictures and "
            f"{len(labels)} labels."
        )


def _pairs(dataset: Dataset, batch_size: int) -> Iterator[tuple]:
    if not (isinstance(dataset, tuple) and len(dataset) == 2):
        for images, labels, *_ in dataset:
            yield images, main_of(labels)
        return
    images, labels = dataset
    _check_lengths(images, labels)
    for start in range(0, len(labels), batch_size):
        batch = slice(start, start + batch_size)
        yield images[batch], labels[batch]


def _indices(labels: Any, classes: int) -> np.ndarray:
    """Class indices `(batch,)` from indices, also `(batch, 1)`, or one-hot labels."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == classes > 1:
        return labels.argmax(-1)
    indices = labels.reshape(-1)
    if labels.ndim not in (1, 2) or len(indices) != len(labels):
        raise ValueError(
            f"Labels are class indices (batch,) or one-hot (batch, {classes}). "
            f"Received the shape: {labels.shape}"
        )
    wrong = ~np.isin(indices, np.arange(classes))
    if wrong.any():
        raise ValueError(
            f"The model has the classes 0 to {classes - 1}. Received the labels: "
            f"{list_names(np.unique(indices[wrong]).tolist())}"
        )
    return indices.astype(int)
