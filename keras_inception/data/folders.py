"""Folders of pictures: listed by class, examined, and divided into splits.

`list_folder` looks at names only; `find_folder` opens every file as far as its header.
"""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.decoding import crop, decode, decode_window
from keras_inception.data.pictures import SUFFIXES, decode_with_pillow, examine
from keras_inception.data.sources import Source
from keras_inception.data.splits import Split, stratified

LabeledPaths = list[tuple[Path, int]]


@dataclasses.dataclass(frozen=True)
class Listing:
    """The picture files of a folder, not opened yet.

    If the folder has no validation split, `train` lists every file.
    """

    root: Path
    class_names: list[str]
    train: LabeledPaths
    validation: LabeledPaths | None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.resolve().name

    @property
    def files(self) -> LabeledPaths:
        """Path and label of each file, training files first."""
        return [*self.train, *(self.validation or [])]


def list_folder(root: Path) -> Listing:
    """Lists the pictures of a folder of class folders, or of `train/` and `val/`."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(root)!r}. DATA is a folder with one folder of "
            "pictures per class, 'digits' for the embedded handwritten digits, or "
            "'tfds:NAME' for a dataset of TensorFlow Datasets."
        )
    train = root / "train"
    found = [path for path in (root / "val", root / "validation") if path.is_dir()]
    if not (found and train.is_dir()):
        names = _class_names(root)
        return Listing(root, names, _list_pictures(root, names), None)
    validation, names = found[0], _class_names(train)
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
    """Examines every file, adds the bad ones to `bad`, and divides the good ones."""
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
    everything = Split((paths, native), np.array([x for _, x in files], "int32"))
    in_train = np.arange(len(files)) < len(listing.train)
    train = everything.take(np.flatnonzero(good & in_train))
    validation = everything.take(np.flatnonzero(good & ~in_train))
    names = listing.class_names
    missing = set(range(len(names))) - set(train.labels.tolist())
    if missing:
        raise ValueError(
            f"The class {names[min(missing)]!r} has no pictures: all of its files are "
            "bad. Repair or remove them, or remove the class."
        )
    if listing.validation is None:
        train, validation = stratified(train, names, seed, validation_share)
    # Python in a graph runs one picture at a time once operations must be
    # deterministic, as in `train`: only graphs that need Pillow get it.
    need_pillow = not native[good].all()
    return Source(
        listing.name,
        names,
        train,
        validation,
        read=_read if need_pillow else _read_natively,
        read_window=_read_window if need_pillow else _read_window_natively,
        sizes=np.array([result.size for result in examined if result.fault is None]),
        bad=bad,
        may_be_damaged=True,
    )


def _read_natively(path, native):
    return decode(tf.io.read_file(path))


def _read(path, native):
    return tf.cond(
        native,
        lambda: _read_natively(path, native),
        lambda: decode_with_pillow(path),
    )


def _read_window_natively(path, native, window, side):
    return decode_window(tf.io.read_file(path), window, side)


def _read_window(path, native, window, side):
    return tf.cond(
        native,
        lambda: _read_window_natively(path, native, window, side),
        lambda: crop(decode_with_pillow(path), window),
    )


def _class_names(folder: Path) -> list[str]:
    folders = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    names = sorted(name for name in folders if not name.startswith("."))
    if len(names) < 2:
        raise ValueError(
            "A classifier needs at least two classes, one folder of pictures for "
            f"each. Found in {folder}: {', '.join(names) or 'no folder'}"
        )
    return names


def _list_pictures(folder: Path, class_names: list[str]) -> LabeledPaths:
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
