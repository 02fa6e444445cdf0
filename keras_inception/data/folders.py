"""Folders of pictures: listed by class, examined, and divided into splits.

`list_folder` looks at names only; `find_folder` opens every file as far as its header.
"""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.pictures import (
    SUFFIXES,
    crop,
    decode,
    decode_window,
    decode_with_pillow,
    examine,
    read_file,
)
from keras_inception.data.sources import Source
from keras_inception.data.splits import Split, stratified

VALIDATION_FOLDERS = ("val", "validation")


@dataclasses.dataclass(frozen=True)
class Listing:
    """The picture files of a folder, not opened yet.

    Attributes:
        root: The folder.
        class_names: Names in label order.
        train: Path and label of each training file; of every file if the folder has no
            validation split.
        validation: Path and label of each validation file, or `None`.
    """

    root: Path
    class_names: list[str]
    train: list[tuple[Path, int]]
    validation: list[tuple[Path, int]] | None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.resolve().name

    @property
    def files(self) -> list[tuple[Path, int]]:
        """Path and label of each file, training files first."""
        return [*self.train, *(self.validation or [])]


def list_folder(root: Path) -> Listing:
    """Lists the pictures of a folder of class folders, or of `train/` and `val/`.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two classes or a class without pictures.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(root)!r}. DATA is a folder with one folder of "
            "pictures per class, 'digits' for the embedded handwritten digits, or "
            "'tfds:NAME' for a dataset of TensorFlow Datasets."
        )
    found = [root / name for name in VALIDATION_FOLDERS if (root / name).is_dir()]
    if not (found and (root / "train").is_dir()):
        names = _class_names(root)
        return Listing(root, names, _list_pictures(root, names), None)
    train, validation = root / "train", found[0]
    names = _class_names(train)
    surplus = sorted(set(_class_names(validation)) - set(names))
    if surplus:
        raise ValueError(
            f"{validation} has classes that {train} does not have: "
            f"{', '.join(surplus)}. Both need the same class folders."
        )
    return Listing(
        root, names, _list_pictures(train, names), _list_pictures(validation, names)
    )


def find_folder(
    listing: Listing, bad: BadPictures, *, seed: int, validation_share: float
) -> Source:
    """Examines every file of a listing and divides the good ones into splits.

    Args:
        listing: From `list_folder`.
        bad: Receives the bad files.
        seed: Determines the validation split, if the folder has none.
        validation_share: Fraction of each class that goes into it.

    Raises:
        ValueError: If more files are bad than `bad` allows, or a class has no good one.
    """
    files = listing.files
    examined = [examine(path) for path, _ in files]
    bad.total += len(files)
    for (path, _), result in zip(files, examined, strict=True):
        if result.fault:
            bad.add(path, result.fault)
    bad.check()
    good = np.array([result.fault is None for result in examined])
    native = np.array([result.native for result in examined])
    paths = np.array([str(path) for path, _ in files])
    labels = np.array([label for _, label in files], "int32")
    everything = Split((paths, native), labels)
    in_train = np.arange(len(files)) < len(listing.train)
    train = everything.take(np.flatnonzero(good & in_train))
    validation = everything.take(np.flatnonzero(good & ~in_train))
    missing = set(range(len(listing.class_names))) - set(train.labels.tolist())
    if missing:
        raise ValueError(
            f"The class {listing.class_names[min(missing)]!r} has no pictures: all of "
            "its files are bad. Repair or remove them, or remove the class."
        )
    if listing.validation is None:
        train, validation = stratified(
            train, listing.class_names, seed, validation_share
        )
    # Python in a graph runs one picture at a time once operations must be
    # deterministic, as in `train`: only graphs that need Pillow get it.
    need_pillow = not native[good].all()
    return Source(
        listing.name,
        listing.class_names,
        train,
        validation,
        read=read_file if need_pillow else _read_natively,
        read_window=_read_window if need_pillow else _read_window_natively,
        sizes=np.array([result.size for result in examined if result.fault is None]),
        bad=bad,
        may_be_damaged=True,
    )


def _read_natively(path, native):
    return decode(tf.io.read_file(path))


def _read_window_natively(path, native, window, side):
    return decode_window(tf.io.read_file(path), window, side)


def _read_window(path, native, window, side):
    return tf.cond(
        native,
        lambda: _read_window_natively(path, native, window, side),
        lambda: crop(decode_with_pillow(path), window),
    )


def _class_names(folder: Path) -> list[str]:
    names = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if len(names) < 2:
        raise ValueError(
            "A classifier needs at least two classes, one folder of pictures for "
            f"each. Found in {folder}: {', '.join(names) or 'no folder'}"
        )
    return names


def _list_pictures(folder: Path, class_names: list[str]) -> list[tuple[Path, int]]:
    found = []
    for label, name in enumerate(class_names):
        # does not follow links to folders, which could form a circle
        files = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not path.name.startswith(".")
            and not path.is_dir()
        )
        if not files:
            raise ValueError(
                f"The class {name!r} has no pictures: {folder / name} contains no file "
                f"that ends in {', '.join(SUFFIXES)}. Add some or remove the folder."
            )
        found += [(path, label) for path in files]
    return found
