"""Where pictures come from: the embedded digits, class folders, and TFDS."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.folders import find_folder, list_folder
from keras_inception.data.pictures import cut
from keras_inception.data.splits import Source, Split, stratified

TFDS_PREFIX = "tfds:"


def find(
    spec: str | Path,
    *,
    seed: int = 0,
    validation_share: float = 0.2,
    max_bad_fraction: float = 0.01,
    data_dir: str | Path | None = None,
    cache: bool = False,
) -> Source:
    """Finds what a DATA argument names and checks it.

    Args:
        spec: `"digits"`; a folder: either `train/` and `val/` (or `validation/`) with a
            folder of pictures per class in each, or a folder of pictures per class, of
            which a stratified share is held out; or a dataset of TensorFlow Datasets,
            `"tfds:NAME"`, `"tfds:NAME:VERSION"` or `"tfds:NAME/CONFIG:VERSION"`.
        seed: Chooses what is held out. Defaults to 0.
        validation_share: How much of each class is held out. Defaults to 0.2.
        max_bad_fraction: The share of a folder's files that may be bad: they are
            skipped and named in `Source.bad`. Defaults to 0.01.
        data_dir: Where TensorFlow Datasets keeps its records; by default where it
            always does, `~/tensorflow_datasets`.
        cache: Whether a folder is written as records into `data_dir` the first time
            and read from there from then on. Defaults to False.

    Raises:
        FileNotFoundError: If there is no such folder, or no such dataset in `data_dir`
            and no network to fetch it from.
        ValueError: If there are fewer than two classes, a class without pictures, or
            more bad files than are allowed; they are named.
    """
    bad = BadPictures(max_bad_fraction)
    if str(spec) == "digits":
        return _digits(seed, validation_share)
    if str(spec).startswith(TFDS_PREFIX):
        # these import TensorFlow Datasets, which costs most of a second
        from keras_inception.data.tfds_datasets import find_dataset

        return find_dataset(
            str(spec).removeprefix(TFDS_PREFIX),
            data_dir,
            validation_share=validation_share,
        )
    listing = list_folder(Path(spec))
    if cache:
        from keras_inception.data.cache import find_cached

        return find_cached(
            listing, bad, data_dir, seed=seed, validation_share=validation_share
        )
    return find_folder(listing, bad, seed=seed, validation_share=validation_share)


def _digits(seed: int, validation_share: float) -> Source:
    """1,797 handwritten digits of 8x8 pixels (UCI, bundled with scikit-learn)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype("uint8")
    pictures = np.repeat(grey[..., None], 3, axis=-1)
    labels = bunch.target.astype("int32")
    names = [str(digit) for digit in range(10)]
    train, validation = stratified(
        Split((pictures,), labels), names, seed=seed, share=validation_share
    )
    return Source(
        "digits",
        names,
        train,
        validation,
        tf.identity,
        lambda picture, window, side: cut(picture, window),
        sizes=np.full((len(labels), 2), 8),
        mirror=False,
        shift=1 / 16,  # they reach the edge: half a pixel of theirs
    )
