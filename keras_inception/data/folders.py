"""Pictures in class folders: found, looked at, and split."""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.pictures import (
    SUFFIXES,
    cut,
    decode,
    decode_window,
    decode_with_pillow,
    examine,
    read_file,
)
from keras_inception.data.splits import Source, Split, stratified


@dataclasses.dataclass(frozen=True)
class Listing:
    """The picture files of a folder, not yet opened.

    Attributes:
        root: The folder.
        class_names: Names in label order.
        train: Path and label of each file to learn from; of every file if the folder
            does not say what is held out.
        validation: Path and label of each file held out, or `None`.
    """

    root: Path
    class_names: list[str]
    train: list[tuple[Path, int]]
    validation: list[tuple[Path, int]] | None


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
    held_out = [root / name for name in ("val", "validation") if (root / name).is_dir()]
    if (root / "train").is_dir() and held_out:
        names = _class_names(root / "train")
        surplus = sorted(set(_class_names(held_out[0])) - set(names))
        if surplus:
            raise ValueError(
                f"{held_out[0]} holds classes that {root / 'train'} does not: "
                f"{', '.join(surplus)}. Both need the same class folders."
            )
        return Listing(
            root,
            names,
            _list_pictures(root / "train", names),
            _list_pictures(held_out[0], names),
        )
    names = _class_names(root)
    return Listing(root, names, _list_pictures(root, names), None)


def find_folder(
    listing: Listing, bad: BadPictures, *, seed: int, validation_share: float
) -> Source:
    """Opens every file of a listing as far as its header.

    Raises:
        ValueError: If more files are bad than `bad` allows, or a class has no good one.
    """
    files = [*listing.train, *(listing.validation or [])]
    looked_at = [examine(path) for path, _ in files]
    bad.total += len(files)
    for (path, _), (_, _, fault) in zip(files, looked_at, strict=True):
        if fault:
            bad.add(path, fault)
    bad.check()
    good = np.array([fault is None for _, _, fault in looked_at])
    paths = np.array([str(path) for path, _ in files])
    native = np.array([native for native, _, _ in looked_at])
    labels = np.array([label for _, label in files], "int32")
    everything = Split((paths, native), labels)
    learnt = np.arange(len(files)) < len(listing.train)
    train = everything.take(np.flatnonzero(good & learnt))
    validation = everything.take(np.flatnonzero(good & ~learnt))
    check_classes(listing, train)
    if listing.validation is None:
        train, validation = stratified(
            train, listing.class_names, seed=seed, share=validation_share
        )
    read, read_window = readers(every_native=bool(native[good].all()))
    return Source(
        listing.root.resolve().name,
        listing.class_names,
        train,
        validation,
        read,
        read_window,
        sizes=np.array([size for _, size, fault in looked_at if fault is None]),
        bad=bad,
        may_be_damaged=True,
    )


def readers(*, every_native: bool):
    """How files are read whole and in part; without Python where TensorFlow can.

    Python in a graph is run one picture at a time once operations must be
    deterministic, as in `train`: no graph gets it that does not need it.
    """
    if every_native:
        return (
            lambda path, native: decode(tf.io.read_file(path)),
            lambda path, native, window, side: decode_window(
                tf.io.read_file(path), window, side
            ),
        )

    def read_window(path, native, window, side):
        return tf.cond(
            native,
            lambda: decode_window(tf.io.read_file(path), window, side),
            lambda: cut(decode_with_pillow(path), window),
        )

    return read_file, read_window


def check_classes(listing: Listing, train: Split) -> None:
    """Refuses a class of which every picture is bad."""
    missing = set(range(len(listing.class_names))) - set(train.labels.tolist())
    if missing:
        name = listing.class_names[min(missing)]
        raise ValueError(
            f"The class {name!r} has no pictures: every file of it is bad. Mend or "
            "remove them, or the class."
        )


def _class_names(folder: Path) -> list[str]:
    names = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if len(names) < 2:
        raise ValueError(
            f"A classifier needs at least two classes, one folder of pictures for "
            f"each. Found in {folder}: {', '.join(names) or 'no folder'}"
        )
    return names


def _list_pictures(folder: Path, class_names: list[str]) -> list[tuple[Path, int]]:
    found = []
    for label, name in enumerate(class_names):
        # links to folders are not followed, so that none can lead round in a circle
        files = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not path.name.startswith(".")
            and not path.is_dir()
        )
        if not files:
            raise ValueError(
                f"The class {name!r} has no pictures: {folder / name} holds no file "
                f"that ends in {', '.join(SUFFIXES)}. Fill or remove it."
            )
        found += [(path, label) for path in files]
    return found
