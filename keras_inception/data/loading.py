"""`find` makes a `Source` of digits, a folder or TFDS; `load` makes `Data` of it."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_inception.data.augmentation import AUGMENTATIONS
from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.decoding import crop
from keras_inception.data.folders import find_folder, list_folder
from keras_inception.data.pipelines import pipeline, training_pipeline
from keras_inception.data.sources import Source
from keras_inception.data.splits import Split, stratified
from keras_inception.defaults import default_augmentation

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Data:
    """Pipelines for training and validation, each of batches `(images, labels)`.

    Images are float32 raw RGB pixels 0..255 `(batch, image_size, image_size, 3)`, which
    `GoogLeNet` takes; labels are int32 class indices `(batch,)`.

    Attributes:
        train: Augmented batches in a new order each epoch, by the seed and the epoch.
        validation: Batches in a fixed order, never augmented.
        class_names: Names in label order.
        source: Where the pictures come from.
        augmentation: `"none"`, `"basic"` or `"paper"`.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    class_names: list[str]
    source: Source
    augmentation: str

    @property
    def bad(self) -> BadPictures:
        """The files that were skipped; reading may add more."""
        return self.source.bad


def find(
    spec: str | Path,
    *,
    seed: int = 0,
    validation_share: float = 0.2,
    max_bad_fraction: float = 0.01,
    data_dir: str | Path | None = None,
    cache: bool = False,
    log: Callable[[str], object] = _logger.info,
) -> Source:
    """Finds the pictures that a DATA argument names, and checks them.

    Args:
        spec: `"digits"`; a folder, either with one folder of pictures per class or with
            `train/` and `val/` (or `validation/`) of that form; or a dataset of
            TensorFlow Datasets, `"tfds:NAME"`, `"tfds:NAME:VERSION"` or
            `"tfds:NAME/CONFIG:VERSION"`.
        seed: Determines the validation split, where the data does not. Defaults to 0.
        validation_share: Fraction of each class used for validation, where the data has
            no validation split. Defaults to 0.2.
        max_bad_fraction: Largest fraction of a folder's files that may be bad; these
            are skipped and named in `Source.bad`. Defaults to 0.01.
        data_dir: TensorFlow Datasets' records. Defaults to `~/tensorflow_datasets`.
        cache: Whether to write a folder's pictures as records into `data_dir` the first
            time and read those from then on. Defaults to False.
        log: Called with one line before records are written.

    Raises:
        FileNotFoundError: If there is no such folder, or if the dataset is not in
            `data_dir` and there is no network to download it.
        ValueError: If there are fewer than two classes, a class without pictures, or
            more bad files than allowed; they are named.

    Example:
    >>> source = find("digits")
    >>> len(source.train), len(source.validation), source.picture_size
    (1438, 359, 8)
    """
    spec = str(spec)
    splitting: dict[str, Any] = {"seed": seed, "validation_share": validation_share}
    bad = BadPictures(max_bad_fraction)
    if spec == "digits":
        return _find_digits(**splitting)
    # These two import TensorFlow Datasets, which takes most of a second.
    if spec.startswith("tfds:"):
        from keras_inception.data.tfds_datasets import find_dataset

        name = spec.removeprefix("tfds:")
        return find_dataset(name, data_dir, validation_share=validation_share)
    listing = list_folder(Path(spec))
    if cache:
        from keras_inception.data.cache import find_cached

        return find_cached(listing, bad, data_dir, log, **splitting)
    return find_folder(listing, bad, **splitting)


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
    """Loads labeled pictures for training and validation.

    Args:
        spec: `"digits"`, a folder of class folders, `"tfds:NAME"`, or the result of
            `find`.
        image_size: Height and width in pixels to which each picture's largest centered
            square is resized. Defaults to 224.
        batch_size: Pictures per batch. Defaults to 32.
        seed: Determines the validation split, the training order and every crop.
            Defaults to 0.
        augment: Augmentation of training pictures: `"none"`; `"basic"`: shift and
            mirror; `"paper"`: crops of 8 to 100 % of the area, color jitter, mirror.
            Defaults to `"basic"` for pictures below 112 pixels, else `"paper"`.
        mirror: Whether augmentation mirrors. Defaults to true, but false for digits.
        first_epoch: The epoch, from 0, of the first pass over `train`. A run that
            resumes after `k` epochs passes `k` and sees what it would have seen.
        validation_share, max_bad_fraction, data_dir, cache: As in `find`; ignored if
            `spec` is its result.

    Raises:
        FileNotFoundError, ValueError: As in `find`, or if an argument is out of range.

    Example:
    >>> data = load("digits", image_size=32)
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
    if isinstance(spec, Source):
        source = spec
    else:
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


def _find_digits(*, seed: int, validation_share: float) -> Source:
    """1,797 handwritten digits of 8x8 pixels (UCI), which scikit-learn contains."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    gray = np.round(bunch.images * (255 / 16)).astype("uint8")
    pictures = np.repeat(gray[..., None], 3, axis=-1)
    everything = Split((pictures,), bunch.target.astype("int32"))
    names = [str(digit) for digit in range(10)]
    return Source(
        "digits",
        names,
        *stratified(everything, names, seed, validation_share),
        read=tf.identity,
        read_window=lambda picture, window, side: crop(picture, window),
        sizes=np.full((len(pictures), 2), 8),
        mirror=False,
        shift=1 / 16,  # half of one of their pixels, since digits touch the edge
    )
