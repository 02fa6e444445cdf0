"""Small pictures in memory, shifted and mirrored, for two of the studies.

The published results of `coarse_heads` and `early_exit` were made with this
augmentation, so it stays as it is. It is not the library's `basic`: it pads by
reflection without repeating the edge (`basic` repeats it) and draws from a stateful
sequence of seeds (`basic` is a function of seed and epoch). A new study should use
`data.load(..., augment="basic")`.
"""

import numpy as np
import tensorflow as tf

from keras_inception.data import Source, Split
from keras_inception.data.pictures import fit_square

SHIFT = 1 / 8  # of the side: 4 pixels of 32


def in_memory(
    source: Source, split: Split, image_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a split: uint8 `(pictures, image_size, image_size, 3)`, class indices."""
    dataset = tf.data.Dataset.from_tensor_slices(split.elements).map(
        lambda *element: fit_square(source.read(*element), image_size),
        tf.data.AUTOTUNE,
    )
    pixels = np.empty((len(split), image_size, image_size, 3), "uint8")
    for index, picture in enumerate(dataset):
        pixels[index] = np.round(picture)
    return pixels, split.labels


def batches(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    augment_seed: int | None = None,
) -> tf.data.Dataset:
    """Batches for `fit`, shuffled in each epoch, shifted and mirrored.

    Args:
        images, labels: From `in_memory`.
        batch_size: Pictures per batch.
        augment_seed: Seed of order, shifts and mirroring; `None` (default): none of
            these.
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
