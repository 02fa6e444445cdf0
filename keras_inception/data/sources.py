"""Where pictures come from: the embedded digits and folders of class folders."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_inception.data.pictures import SUFFIXES, examine, read_file


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples before they are read.

    Attributes:
        elements: Arrays of equal length; `read` turns one row of them into a picture.
        labels: Class index of each example, int32 `(examples,)`.
    """

    elements: tuple[np.ndarray, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Split":
        """The examples at these positions."""
        return Split(tuple(part[index] for part in self.elements), self.labels[index])


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled pictures, found and checked, not yet read.

    Attributes:
        name: For run directories and reports.
        class_names: Names in label order.
        train: Examples to learn from.
        validation: Examples held out.
        read: Turns one element into uint8 RGB pixels, in TensorFlow operations.
        picture_side: Median of the pictures' shorter sides in pixels.
    """

    name: str
    class_names: list[str]
    train: Split
    validation: Split
    read: Callable[..., tf.Tensor]
    picture_side: int


def find(spec: str | Path, *, seed: int = 0, validation_share: float = 0.2) -> Source:
    """Finds what a DATA argument names and checks it.

    Args:
        spec: `"digits"`, or a folder: either `train/` and `val/` (or `validation/`)
            with a folder of pictures per class in each, or a folder of pictures per
            class, of which a stratified share is held out.
        seed: Chooses what is held out. Defaults to 0.
        validation_share: How much of each class is held out. Defaults to 0.2.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are fewer than two classes, a class without pictures, or
            files that are no pictures; all faults are named.
    """
    if str(spec) == "digits":
        return _digits(seed, validation_share)
    return _folder(Path(spec), seed, validation_share)


def _digits(seed: int, validation_share: float) -> Source:
    """1,797 handwritten digits of 8x8 pixels (UCI, bundled with scikit-learn)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype("uint8")
    pictures = np.repeat(grey[..., None], 3, axis=-1)
    labels = bunch.target.astype("int32")
    train, validation = stratified(
        Split((pictures,), labels), seed=seed, share=validation_share
    )
    names = [str(digit) for digit in range(10)]
    return Source("digits", names, train, validation, tf.identity, picture_side=8)


def _folder(root: Path, seed: int, validation_share: float) -> Source:
    if not root.is_dir():
        raise FileNotFoundError(
            f"There is no folder {str(root)!r}. DATA is a folder with one folder of "
            "pictures per class, or 'digits' for the embedded handwritten digits."
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
        train, side = _list_pictures(root / "train", names)
        validation, _ = _list_pictures(held_out[0], names)
    else:
        names = _class_names(root)
        everything, side = _list_pictures(root, names)
        train, validation = stratified(everything, seed=seed, share=validation_share)
    return Source(
        root.resolve().name, names, train, validation, read_file, picture_side=side
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


def _list_pictures(folder: Path, class_names: list[str]) -> tuple[Split, int]:
    paths, native, labels, sides, faults = [], [], [], [], []
    for label, name in enumerate(class_names):
        files = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if not files:
            raise ValueError(
                f"The class {name!r} has no pictures: {folder / name} holds no file "
                f"that ends in {', '.join(SUFFIXES)}. Fill or remove it."
            )
        for path in files:
            decodable, size, fault = examine(path)
            if fault:
                faults.append(f"{path}: {fault}")
                continue
            paths.append(str(path))
            native.append(decodable)
            labels.append(label)
            sides.append(min(size))
    if faults:
        shown = "; ".join(faults[:5]) + ("; ..." if len(faults) > 5 else "")
        raise ValueError(
            f"{len(faults)} of {len(faults) + len(paths)} files in {folder} are no "
            f"pictures; mend or remove them: {shown}"
        )
    elements = (np.array(paths), np.array(native))
    return Split(elements, np.array(labels, "int32")), int(np.median(sides))


def stratified(split: Split, *, seed: int, share: float) -> tuple[Split, Split]:
    """Parts examples in two, the same share of every class in the second part.

    Raises:
        ValueError: If a class has a single example, which can't be on both sides.
    """
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        members = random.permutation(np.flatnonzero(split.labels == label))
        if len(members) < 2:
            raise ValueError(
                "Every class needs at least two pictures, one to learn from and one "
                f"to hold out. Only one: {split.elements[0][members[0]]}"
            )
        count = min(max(1, round(len(members) * share)), len(members) - 1)
        held_out[members[:count]] = True
    return split.take(np.flatnonzero(~held_out)), split.take(np.flatnonzero(held_out))
