"""Files that are the same byte for byte, within a dataset and across its splits."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from keras_inception.data.listing import LabeledPaths

MOST_NAMED = 10


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """The copies found.

    Attributes:
        across_splits: Training files, each with the validation or test file that it is
            a copy of: the model would be judged on pictures that it learned from.
        across_classes: Pairs of files of different classes: one label must be wrong.
    """

    across_splits: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    across_classes: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def report(self) -> dict[str, dict[str, Any]]:
        """Returns the number and the first ten pairs of each kind, for JSON."""
        return {
            kind: {"count": len(pairs), "files": pairs[:MOST_NAMED]}
            for kind, pairs in vars(self).items()
        }


def group_copies(paths: Iterable[str | os.PathLike]) -> dict[str, str]:
    """Returns a digest of the contents of each file that has a copy, by path."""
    by_size: dict[int, list[str]] = {}
    for path in map(str, paths):
        by_size.setdefault(os.stat(path).st_size, []).append(path)
    by_digest: dict[str, list[str]] = {}
    for same_size in by_size.values():
        if len(same_size) > 1:
            for path in same_size:
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                by_digest.setdefault(digest, []).append(path)
    return {
        path: digest
        for digest, copies in by_digest.items()
        if len(copies) > 1
        for path in copies
    }


def find_duplicates(
    by_split: Mapping[str, LabeledPaths], digest_by_path: Mapping[str, str]
) -> Duplicates:
    """Finds copies across splits and classes.

    Args:
        by_split: Files and labels of each split.
        digest_by_path: The result of `group_copies` for these files.
    """
    groups: dict[str, list[tuple[str, str, int]]] = {}
    for split, files in by_split.items():
        for path, label in files:
            if digest := digest_by_path.get(str(path)):
                groups.setdefault(digest, []).append((split, str(path), label))
    found = Duplicates()
    for copies in groups.values():
        judged = [path for split, path, _ in copies if split != "train"]
        found.across_splits.extend(
            (path, judged[0])
            for split, path, _ in copies
            if judged and split == "train"
        )
        _, first, label = copies[0]
        found.across_classes.extend(
            (first, path) for _, path, other in copies if other != label
        )
    return found
