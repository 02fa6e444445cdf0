"""`Listing`: the files of a dataset by class and split, none of them opened."""

import dataclasses
from pathlib import Path

LabeledPaths = list[tuple[Path, int]]

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a dataset by split, each with the index of its class.

    Attributes:
        root: The dataset's folder; files are recorded relative to it.
        name: Its own name.
        class_names: Names in label order, in Unicode's form NFC.
        train: Training files; every file if the dataset has no splits.
        validation: Validation files; `None` if they are to be chosen from `train`.
        test: Test files; `None` if the dataset has none.
        passed_over: Files that can't be pictures of a class, each with the reason.
    """

    root: Path
    name: str
    class_names: list[str]
    train: LabeledPaths
    validation: LabeledPaths | None = None
    test: LabeledPaths | None = None
    passed_over: list[tuple[Path, str]] = dataclasses.field(default_factory=list)

    @property
    def by_split(self) -> dict[str, LabeledPaths]:
        """The files of each split that the dataset has."""
        files = {name: getattr(self, name) for name in SPLITS}
        return {name: paths for name, paths in files.items() if paths is not None}

    @property
    def files(self) -> LabeledPaths:
        """The files of all splits, training files first."""
        return [file for files in self.by_split.values() for file in files]

    def merged(self) -> "Listing":
        """The same files without splits."""
        return dataclasses.replace(self, train=self.files, validation=None, test=None)
