"""Small pictures in memory, and the usual augmentation of them, for the studies."""

import numpy as np
import tensorflow as tf

from keras_inception.data import Source, Split
from keras_inception.data.pictures import fit_square

SHIFT = 1 / 8  # of the side: 4 pixels of 32


def in_memory(source: Source, split: Split, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A split as uint8 pixels `(pictures, side, side, 3)` and class indices."""
    dataset = tf.data.Dataset.from_tensor_slices(split.elements).map(
        lambda *element: fit_square(source.read(*element), side), tf.data.AUTOTUNE
    )
    pixels = np.empty((len(split), side, side, 3), "uint8")
    for index, picture in enumerate(dataset):
        pixels[index] = np.round(picture)
    return pixels, split.labels


def batches(images, labels, batch_size: int, augment_seed: int | None = None):
    """Batches for `fit`: in an order drawn anew each epoch, shifted and mirrored.

    Args:
        images, labels: From `in_memory`.
        batch_size: Pictures per batch.
        augment_seed: Seeds order, shifts and mirrorings; `None`: as they come.
    """
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    if augment_seed is None:
        return dataset.batch(batch_size).map(_as_float).prefetch(1)
    dataset = dataset.shuffle(len(labels), seed=augment_seed)
    seeds = tf.data.Dataset.random(seed=augment_seed).batch(2, drop_remainder=True)
    dataset = tf.data.Dataset.zip(dataset, seeds)
    return dataset.map(_shifted_and_mirrored).batch(batch_size).prefetch(2)


def _as_float(image, label):
    return tf.cast(image, tf.float32), label


def _shifted_and_mirrored(example, seed):
    image, label = example
    shape = image.shape
    margin = round(shape[0] * SHIFT)
    image = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]], "REFLECT")
    image = tf.image.stateless_random_crop(image, shape, seed)
    image = tf.image.stateless_random_flip_left_right(image, seed)
    return _as_float(image, label)
