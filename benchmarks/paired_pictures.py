"""Pictures of the paired studies, and their order and changes in each epoch."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

import keras_inception as ki

IMAGE_SIZE = 32
SHIFT = 1 / 8  # of the side
TRAINING_PER_CLASS = 400
CIFAR10_VEHICLES = ("airplane", "automobile", "ship", "truck")

Part = tuple[np.ndarray, np.ndarray]  # pixels uint8, class indices


class Pictures(NamedTuple):
    """Pixels uint8 and class indices, to learn from and to judge with."""

    training: Part
    held_out: Part
    superclasses: Sequence[str]


def read_pictures(
    folder: str | Path,
    training_per_class: int = TRAINING_PER_CLASS,
    held_out: int = 3000,
) -> Pictures:
    """Reads a folder or `digits`; which pictures are drawn does not depend on any seed.

    The held-out pictures are those of `val/`; if these are too few, also pictures of
    `train/` that are not among the drawn ones.
    """
    from benchmarks.small_pictures import in_memory
    from keras_inception import data

    source = data.find(folder)
    splits = source.train, source.validation
    labels = [split.labels for split in splits]
    superclasses = read_superclasses(Path(folder), source.class_names)

    def read_part(part: int, rows: np.ndarray) -> Part:
        return in_memory(source, splits[part].take(rows), IMAGE_SIZE)

    random = np.random.default_rng(0)
    classes = range(len(superclasses))
    train, val = (
        [random.permutation(np.flatnonzero(part == label)) for label in classes]
        for part in labels
    )
    per_class = held_out // len(superclasses)
    kept = [np.sort(of_class[:training_per_class]) for of_class in train]
    judging = [np.sort(of_class[:per_class]) for of_class in val]
    more = [
        np.sort(of_class[training_per_class:][: per_class - len(judges)])
        for of_class, judges in zip(train, judging, strict=True)
    ]
    parts = [read_part(1, np.concatenate(judging))]
    if any(map(len, more)):
        parts.append(read_part(0, np.concatenate(more)))
    images, judged = map(np.concatenate, zip(*parts, strict=True))
    return Pictures(read_part(0, np.concatenate(kept)), (images, judged), superclasses)


def read_superclasses(folder: Path, class_names: Sequence[str]) -> list[str]:
    """Reads the superclasses of a folder, or returns those of CIFAR-10."""
    if (file := folder / "superclasses.csv").exists():
        return list(ki.read_superclasses(file, class_names))
    return cifar10_superclasses(class_names)


def cifar10_superclasses(class_names: Sequence[str]) -> list[str]:
    """Vehicle or animal, for each class of CIFAR-10."""
    vehicles = [name in CIFAR10_VEHICLES for name in class_names]
    return ["vehicle" if one else "animal" for one in vehicles]


class Epochs(keras.utils.PyDataset):
    """Batches for `fit`, shuffled, shifted and mirrored by seed and epoch."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, seed: int, batch: int = 32
    ):
        super().__init__()
        self.batch = batch
        self.side, margin = images.shape[1], round(images.shape[1] * SHIFT)
        around = [(0, 0), (margin, margin), (margin, margin), (0, 0)]
        self.images, self.labels = np.pad(images, around, "edge"), labels
        self.margin, self.seed, self.epoch = margin, seed, 0
        self._draw()

    def _draw(self) -> None:
        random = np.random.default_rng([self.seed, self.epoch])
        self.order = random.permutation(len(self.labels))
        self.corners = random.integers(0, 2 * self.margin + 1, (2, len(self.labels)))
        self.mirrored = random.random(len(self.labels)) < 0.5

    def __len__(self) -> int:
        return len(self.labels) // self.batch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        rows, columns = self.corners[:, chosen, None] + np.arange(self.side)
        columns = np.where(self.mirrored[chosen, None], columns[:, ::-1], columns)
        pixels = self.images[chosen[:, None, None], rows[:, :, None], columns[:, None]]
        return pixels.astype("float32"), self.labels[chosen]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._draw()
