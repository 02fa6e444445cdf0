"""The files of a `Listing` as a source: examined, counted, and divided into splits."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.decoding import (
    crop,
    decode,
    decode_plain,
    decode_plain_window,
    decode_window,
)
from keras_inception.data.duplicates import (
    Duplicates,
    find_duplicates,
    group_copies,
)
from keras_inception.data.listing import LabeledPaths, Listing
from keras_inception.data.passed_over import NO_PICTURE, PassedOver
from keras_inception.data.pictures import (
    SUFFIXES,
    Examination,
    decode_with_pillow,
    examine,
)
from keras_inception.data.sources import Source
from keras_inception.data.splits import Split, validation_mask


def find_folder(
    listing: Listing,
    bad: BadPictures,
    *,
    seed: int,
    validation_share: float,
    drop_duplicates: bool = False,
) -> Source:
    """Examines every file, adds the bad ones to `bad`, and divides the good ones."""
    examined = {path: examine(path) for path, _ in listing.files}
    passed_over = PassedOver(listing.passed_over)
    for path, result in examined.items():
        if result.format is None and path.suffix.lower() not in SUFFIXES:
            passed_over.add(path, NO_PICTURE)
            continue
        bad.total += 1
        if result.fault:
            bad.add(path, result.fault)
    bad.check()
    good = {path: result for path, result in examined.items() if not result.fault}
    by_split = divide(listing, good, seed, validation_share)
    duplicates = find_duplicates(by_split, group_copies(good))
    if drop_duplicates:
        by_split = without_copies(by_split, duplicates)
    splits = {
        name: Split(
            (
                np.array([os.fsencode(path) for path, _ in files], "S"),
                np.array([good[path].native for path, _ in files], bool),
            ),
            np.array([label for _, label in files], "int32"),
        )
        for name, files in by_split.items()
    }
    read, read_window = _readers(good.values())
    return Source(
        listing.name,
        listing.class_names,
        splits["train"],
        splits["validation"],
        read=read,
        read_window=read_window,
        sizes=np.array([result.size for result in good.values()]),
        test=splits.get("test"),
        listing=listing,
        bad=bad,
        passed_over=passed_over,
        duplicates=duplicates,
        may_be_damaged=True,
    )


def _readers(examined: Iterable[Examination]) -> tuple[Callable, Callable]:
    """The fastest functions that read all of these pictures, whole or in part."""
    pictures = list(examined)
    if all(x.format in ("JPEG", "PNG") and x.orientation == 1 for x in pictures):
        return _read_plainly, _read_window_plainly
    if all(x.native for x in pictures):
        return _read_natively, _read_window_natively
    # Python in a graph runs one picture at a time once operations must be
    # deterministic, as in `train`.
    return _read, _read_window


def divide(
    listing: Listing, good: Collection[Path], seed: int, validation_share: float
) -> dict[str, LabeledPaths]:
    """The good files of each split; validation is cut from train if there is none."""
    by_split = {
        name: [file for file in files if file[0] in good]
        for name, files in listing.by_split.items()
    }
    labels = np.array([label for _, label in by_split["train"]], int)
    missing = {label for _, label in listing.train} - set(labels.tolist())
    if missing:
        name = listing.class_names[min(missing)]
        raise ValueError(
            f"The class {name!r} has no pictures: all of its files are damaged or not "
            "pictures. Repair or remove them, or remove the class."
        )
    if "validation" not in by_split:
        chosen = validation_mask(labels, listing.class_names, seed, validation_share)
        train = by_split["train"]
        for name, mask in (("train", ~chosen), ("validation", chosen)):
            by_split[name] = [train[place] for place in np.flatnonzero(mask)]
    return by_split


def without_copies(
    by_split: Mapping[str, LabeledPaths], duplicates: Duplicates
) -> dict[str, LabeledPaths]:
    """Leaves out training files that are copies of validation or test files."""
    copies = {path for path, _ in duplicates.across_splits}
    train = [file for file in by_split["train"] if str(file[0]) not in copies]
    return {**by_split, "train": train}


def _read_plainly(path, native):
    return decode_plain(tf.io.read_file(path))


def _read_window_plainly(path, native, window, side):
    return decode_plain_window(tf.io.read_file(path), window, side)


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
