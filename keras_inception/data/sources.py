"""`Source`: labeled pictures, found and checked, before any of them is read."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_inception.data.augmentation import SHIFT, augmented
from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.duplicates import Duplicates
from keras_inception.data.listing import SPLITS, Listing
from keras_inception.data.passed_over import PassedOver
from keras_inception.data.splits import RecordSplit, Split

AnySplit = Split | RecordSplit


@dataclasses.dataclass(frozen=True)
class Source:
    """Labeled pictures, found and checked, not read yet.

    Attributes:
        name: Name for run directories and reports.
        class_names: Names in label order.
        train: The training split.
        validation: The validation split; empty if `find` was told to choose none.
        test: The test split, `None` if the data has none.
        read: Turns one element of a split into uint8 RGB pixels, in TensorFlow
            operations.
        read_window: Reads only a part of a picture: takes an element, the `Window`
            that selects the part, and the side in pixels that it will be resized to.
        sizes: Width and height of the pictures that were measured, `(pictures, 2)`.
        mirror: Whether a mirrored picture still shows its class; false for digits.
        shift: How far `basic` augmentation may shift, as a fraction of the side.
        listing: The files that it was made from, `None` for digits and TFDS.
        dataset: The dataset of TFDS and its version, `tfds:NAME:VERSION` or
            `tfds:NAME/CONFIG:VERSION`; `None` for others.
        bad: The files that were skipped because they can't be decoded.
        passed_over: The files that were left out on purpose, such as other documents.
        duplicates: The files that occur more than once, byte for byte.
        may_be_damaged: Whether reading a picture may still fail.
    """

    name: str
    class_names: list[str]
    train: AnySplit
    validation: AnySplit
    read: Callable[..., tf.Tensor]
    read_window: Callable[..., tf.Tensor]
    sizes: np.ndarray
    mirror: bool = True
    shift: float = SHIFT
    test: AnySplit | None = None
    listing: Listing | None = None
    dataset: str | None = None
    bad: BadPictures = dataclasses.field(default_factory=BadPictures)
    passed_over: PassedOver = dataclasses.field(default_factory=PassedOver)
    duplicates: Duplicates = dataclasses.field(default_factory=Duplicates)
    may_be_damaged: bool = False

    @property
    def by_split(self) -> dict[str, AnySplit]:
        """The splits that the data has, by name, without an empty one."""
        splits = {name: getattr(self, name) for name in SPLITS}
        return {name: split for name, split in splits.items() if split}

    @property
    def picture_size(self) -> int:
        """Median of the pictures' shorter sides in pixels."""
        return int(np.median(self.sizes.min(axis=1)))

    def read_augmented(
        self,
        element: Sequence,
        augmentation: str,
        side: int,
        key: tf.Tensor,
        **options: Any,
    ) -> tf.Tensor:
        """Reads one element of a split by `augmented`, whose arguments these are."""
        return augmented(
            augmentation,
            lambda: self.read(*element),
            lambda window, pixels: self.read_window(*element, window, pixels),
            side,
            key,
            **{"shift": self.shift} | options,
        )
