"""Pictures in: `load` turns digits, a folder or TFDS into pipelines for `fit`.

The pipelines yield `(images, labels)`: float32 raw RGB pixels 0..255 of shape
`(batch, side, side, 3)`, which is what `GoogLeNet` takes, and int32 class indices.
"""

import dataclasses
from pathlib import Path

import tensorflow as tf

from keras_inception.data.augmentation import (
    AUGMENTATIONS,
    augmented,
)
from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.contact_sheet import draw_contact_sheet
from keras_inception.data.pictures import fit_square, load_picture
from keras_inception.data.pipelines import (
    pipeline,
    spread,
    training_pipeline,
    whole_pictures,
)
from keras_inception.data.sources import find
from keras_inception.data.splits import Source, Split, balanced_class_weights
from keras_inception.defaults import default_augmentation

__all__ = [
    "AUGMENTATIONS",
    "BadPictures",
    "Data",
    "Source",
    "Split",
    "augmented",
    "balanced_class_weights",
    "draw_contact_sheet",
    "find",
    "fit_square",
    "load",
    "load_picture",
    "pipeline",
    "spread",
    "training_pipeline",
    "whole_pictures",
]


@dataclasses.dataclass(frozen=True)
class Data:
    """Pipelines to train and validate on.

    Attributes:
        train: Batches in an order that is drawn anew each epoch, augmented; order and
            pictures are functions of the seed and the epoch.
        validation: Batches in a fixed order, never augmented.
        class_names: Names in label order.
        source: What the pipelines read.
        augmentation: `"none"`, `"basic"` or `"paper"`.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    class_names: list[str]
    source: Source
    augmentation: str

    @property
    def bad(self) -> BadPictures:
        """The files that were skipped; more may join while the pipelines run."""
        return self.source.bad


def load(
    spec: str | Path | Source,
    image_size: int = 224,
    batch_size: int = 32,
    *,
    seed: int = 0,
    validation_share: float = 0.2,
    augment: str | None = None,
    mirror: bool | None = None,
    first_epoch: int = 0,
    max_bad_fraction: float = 0.01,
    data_dir: str | Path | None = None,
    cache: bool = False,
) -> Data:
    """Loads labelled pictures for training and validation.

    Args:
        spec: `"digits"`, a folder of class folders, `"tfds:NAME"`, or what `find`
            returned for them.
        image_size: Side in pixels that the pictures are fitted to: the largest centred
            square, resized. Defaults to 224.
        batch_size: Pictures per batch. Defaults to 32.
        seed: Chooses what is held out, the order of training and every crop. Defaults
            to 0.
        validation_share: Share of every class that is held out where the folder does
            not say. Defaults to 0.2.
        augment: What training does to the pictures: `"none"`; `"basic"`: shifted and
            mirrored; `"paper"`: crops of 8 to 100 % of the area, other light, mirrored.
            By default `"basic"` for pictures below 112 pixels, else `"paper"`.
        mirror: Whether augmentation mirrors; by default yes, but not digits.
        first_epoch: Which epoch the first pass over `train` is, from 0. A run that goes
            on after `k` epochs gives `k`, and sees what it would have seen.
        max_bad_fraction, data_dir, cache: As `find`.

    Raises:
        FileNotFoundError, ValueError: As `find`, or if an argument is out of range.

    Example:
    >>> data = load("digits", image_size=32)
    >>> data.class_names[:3]
    ['0', '1', '2']
    >>> images, labels = next(iter(data.train))
    >>> images.shape, labels.shape
    (TensorShape([32, 32, 32, 3]), TensorShape([32]))
    """
    for argument, value, least in (
        ("image_size", image_size, 1),
        ("batch_size", batch_size, 1),
        ("first_epoch", first_epoch, 0),
    ):
        if value < least:
            raise ValueError(f"{argument} must be at least {least}. Received: {value}")
    if augment not in (None, *AUGMENTATIONS):
        raise ValueError(
            f"augment must be one of {', '.join(AUGMENTATIONS)}. Received: {augment!r}"
        )
    source = spec
    if not isinstance(spec, Source):
        source = find(
            spec,
            seed=seed,
            validation_share=validation_share,
            max_bad_fraction=max_bad_fraction,
            data_dir=data_dir,
            cache=cache,
        )
    augmentation = augment or default_augmentation(source.picture_size)
    train = training_pipeline(
        source,
        image_size,
        batch_size,
        seed=seed,
        augmentation=augmentation,
        mirror=source.mirror if mirror is None else mirror,
        first_epoch=first_epoch,
    )
    validation = pipeline(source, source.validation, image_size, batch_size)
    return Data(train, validation, source.class_names, source, augmentation)
