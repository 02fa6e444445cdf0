"""`find` makes a `Source` of digits, a folder or TFDS; `load` makes `Data` of it."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_inception.data.augmentation import AUGMENTATIONS
from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.decoding import crop
from keras_inception.data.folders import find_folder
from keras_inception.data.labels_csv import is_csv, list_csv
from keras_inception.data.layouts import list_folder
from keras_inception.data.listing import Listing
from keras_inception.data.manifest import Manifest
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
        test: The same of the test split, `None` if the data has none.
        class_names: Names in label order.
        source: Where the pictures come from.
        augmentation: `"none"`, `"basic"` or `"paper"`.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    class_names: list[str]
    source: Source
    augmentation: str
    test: tf.data.Dataset | None = None

    @property
    def bad(self) -> BadPictures:
        """The files that were skipped; reading may add more."""
        return self.source.bad


def find(
    spec: str | Path | Listing,
    *,
    seed: int = 0,
    validation_share: float = 0.2,
    max_bad_fraction: float = 0.01,
    data_dir: str | Path | None = None,
    cache: bool = False,
    drop_duplicates: bool = False,
    whole: bool = False,
    manifest: Manifest | None = None,
    log: Callable[[str], object] = _logger.info,
) -> Source:
    """Finds the pictures that a DATA argument names, and checks them.

    Args:
        spec: `"digits"`; a folder, either with one folder of pictures per class or with
            `train/`, `val/` and `test/` of that form, in any spelling; a CSV file
            with the columns `path` and `label`, alone (`"FILE.csv"`) or for the
            pictures of a folder (`"DIR:FILE.csv"`); a dataset of TensorFlow Datasets,
            `"tfds:NAME"`, `"tfds:NAME:VERSION"` or `"tfds:NAME/CONFIG:VERSION"`; or the
            result of `list_files`.
        seed: Determines the validation split, where the data does not. Defaults to 0.
        validation_share: Fraction of each class used for validation, where the data has
            no validation split; 0 for none. Defaults to 0.2.
        max_bad_fraction: Largest fraction of a folder's pictures that may be bad; these
            are skipped and named in `Source.bad`. Defaults to 0.01.
        data_dir: TensorFlow Datasets' records. Defaults to `~/tensorflow_datasets`.
        cache: Whether to write a folder's pictures as records into `data_dir` the first
            time and read those from then on. Defaults to False.
        drop_duplicates: Whether to leave out training files that are copies of
            validation or test files. Defaults to False.
        whole: Whether to put the pictures of all splits into `Source.train`. Defaults
            to False.
        manifest: The pictures that a run learned from; those of a folder or a CSV file
            get the splits that they had then. Defaults to none.
        log: Called with one line before records are written, and with one that says how
            the pictures differ from `manifest`.

    Raises:
        FileNotFoundError: If there is no such folder or file, or if the dataset is not
            in `data_dir` and there is no network to download it.
        ValueError: If there are fewer than two classes, a class without pictures, a
            folder that can be read in more than one way, more bad files than allowed
            (they are named), or other classes than in `manifest`.

    Example:
    >>> source = find("digits")
    >>> len(source.train), len(source.validation), source.picture_size
    (1438, 359, 8)
    """
    if whole:
        validation_share = 0.0
    splitting: dict[str, Any] = {"seed": seed, "validation_share": validation_share}
    if spec == "digits":
        return _find_digits(**splitting)
    if not isinstance(spec, Listing) and not is_files(spec):
        # takes most of a second, like find_cached, by importing TensorFlow Datasets
        from keras_inception.data.tfds_datasets import find_dataset

        name = str(spec).removeprefix("tfds:")
        return find_dataset(
            name, data_dir, validation_share=validation_share, whole=whole
        )
    listing = spec if isinstance(spec, Listing) else list_files(spec)
    if manifest is not None:
        listing = manifest.apply(listing, log)
    if whole:
        listing = listing.merged()
    bad = BadPictures(max_bad_fraction)
    splitting["drop_duplicates"] = drop_duplicates
    if cache:
        from keras_inception.data.cache import find_cached

        return find_cached(listing, bad, data_dir, log, **splitting)
    return find_folder(listing, bad, **splitting)


def is_files(spec: str | Path) -> bool:
    """Whether a DATA argument names files: a folder or a CSV file."""
    return spec != "digits" and not str(spec).startswith("tfds:")


def list_files(spec: str | Path, class_names: Sequence[str] | None = None) -> Listing:
    """Lists the files of a folder or a CSV file without opening any of them.

    Args:
        spec: As for `find`, but neither digits nor TFDS.
        class_names: Classes in label order, if they are known; the data may lack some.
            By default they are the classes of the training split, sorted by name.

    Raises:
        FileNotFoundError, ValueError: As in `find`.
    """
    if is_csv(str(spec)):
        return list_csv(str(spec), class_names)
    return list_folder(Path(spec), class_names)


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
    drop_duplicates: bool = False,
) -> Data:
    """Loads labeled pictures for training and validation.

    Args:
        spec: `"digits"`, a folder of class folders, a CSV file, `"tfds:NAME"`, or the
            result of `find`.
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
        validation_share, max_bad_fraction, data_dir, cache, drop_duplicates: As in
            `find`; ignored if `spec` is its result.

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
            drop_duplicates=drop_duplicates,
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
    test = None
    if source.test is not None:
        test = pipeline(source, source.test, image_size, batch_size)
    return Data(train, validation, source.class_names, source, augmentation, test)


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
