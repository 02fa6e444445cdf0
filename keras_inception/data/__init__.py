"""Pictures in: `load` turns digits or a folder into pipelines for `fit`.

The pipelines yield `(images, labels)`: float32 raw RGB pixels 0..255 of shape
`(batch, side, side, 3)`, which is what `GoogLeNet` takes, and int32 class indices.
"""

import dataclasses
from pathlib import Path

import tensorflow as tf

from keras_inception.data.pictures import fit_square, load_picture
from keras_inception.data.sources import Source, Split, find

__all__ = ["Data", "Source", "Split", "find", "load", "load_picture", "pipeline"]


@dataclasses.dataclass(frozen=True)
class Data:
    """Pipelines to train and validate on.

    Attributes:
        train: Batches in an order that is drawn anew each epoch, from the seed.
        validation: Batches in a fixed order.
        class_names: Names in label order.
        source: What the pipelines read.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    class_names: list[str]
    source: Source


def load(
    spec: str | Path | Source,
    image_size: int = 224,
    batch_size: int = 32,
    *,
    seed: int = 0,
    validation_share: float = 0.2,
) -> Data:
    """Loads labelled pictures for training and validation.

    Args:
        spec: `"digits"`, a folder of class folders, or what `find` returned for them.
        image_size: Side in pixels that the pictures are fitted to: the largest centred
            square, resized. Defaults to 224.
        batch_size: Pictures per batch. Defaults to 32.
        seed: Chooses what is held out and the order of training. Defaults to 0.
        validation_share: Share of every class that is held out where the folder does
            not say. Defaults to 0.2.

    Raises:
        FileNotFoundError, ValueError: As `find`, or if a size is below 1.

    Example:
    >>> data = load("digits", image_size=32)
    >>> data.class_names[:3]
    ['0', '1', '2']
    >>> images, labels = next(iter(data.train))
    >>> images.shape, labels.shape
    (TensorShape([32, 32, 32, 3]), TensorShape([32]))
    """
    for argument, value in (("image_size", image_size), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{argument} must be at least 1. Received: {value}")
    source = spec
    if not isinstance(spec, Source):
        source = find(spec, seed=seed, validation_share=validation_share)
    return Data(
        pipeline(source, source.train, image_size, batch_size, shuffle_seed=seed),
        pipeline(source, source.validation, image_size, batch_size),
        source.class_names,
        source,
    )


def pipeline(
    source: Source,
    split: Split,
    image_size: int,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
) -> tf.data.Dataset:
    """Batches of one split, read and fitted in parallel.

    Args:
        source: Knows how its elements are read.
        split: Which examples.
        image_size: Side in pixels.
        batch_size: Pictures per batch; the last batch may be smaller.
        shuffle_seed: Seeds an order drawn anew for each epoch; `None`: as they come.
    """

    def picture_and_label(*example):
        *element, label = example
        return fit_square(source.read(*element), image_size), label

    dataset = tf.data.Dataset.from_tensor_slices((*split.elements, split.labels))
    if shuffle_seed is not None:
        dataset = dataset.shuffle(len(split), seed=shuffle_seed)
    dataset = dataset.map(picture_and_label, tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)
