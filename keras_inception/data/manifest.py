"""The pictures that a run learned from, as its `pictures.csv` lists them.

Commands that read the same folder later (to resume, to evaluate) compare it with the
list: other classes are an error, other pictures are reported, and the pictures that
were there before stay in their splits.
"""

import csv
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from keras_inception.data.listing import LabeledPaths, Listing
from keras_inception.data.sources import Source
from keras_inception.files import write_csv
from keras_inception.text import list_names

UNUSED = ""  # in place of the split: a bad file, a copy left out, not a picture


class Row(NamedTuple):
    """A line of `pictures.csv`; `file` is relative to the dataset's folder."""

    file: str
    label: str
    split: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The pictures of a dataset as they were at one time.

    Attributes:
        rows: A row for each picture, in the order of the splits.
    """

    rows: list[Row]

    @classmethod
    def of(cls, source: Source) -> Self | None:
        """Lists the pictures of a source; `None` if it does not consist of files."""
        listing, names = source.listing, source.class_names
        if listing is None:
            return None
        rows = [
            Row(_relative(path, listing.root), names[label], name, _size(path) or 0)
            for name, split in source.by_split.items()
            for path, label in zip(split.paths or (), split.labels, strict=True)
        ]
        used = {row.file for row in rows}
        rest = (_relative(path, listing.root) for path, _ in listing.files)
        unused = [
            Row(file, "", UNUSED, _size(listing.root / file) or 0)
            for file in rest
            if file not in used
        ]
        return cls(rows + unused)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote; a `ValueError` names a damaged line."""
        with path.open(
            newline="", encoding="utf-8", errors="surrogateescape"
        ) as opened:
            lines = list(csv.reader(opened))
        rows = []
        for number, line in enumerate(lines or [[]], start=1):
            if number == 1 and line == list(Row._fields):
                continue
            if number == 1 or len(line) != len(Row._fields) or not line[3].isdecimal():
                raise ValueError(
                    f"{path}, line {number} is damaged: expected "
                    f"{','.join(Row._fields)}. Received: {','.join(line)}"
                )
            file, label, split, size = line
            rows.append(Row(file, label, split, int(size)))
        return cls(rows)

    def write(self, path: Path) -> None:
        """Writes the list as a CSV file."""
        write_csv(path, Row._fields, self.rows, errors="surrogateescape")

    @property
    def class_names(self) -> list[str]:
        """The classes in label order."""
        return sorted({row.label for row in self.rows if row.split != UNUSED})

    def matches(self, listing: Listing) -> bool:
        """Whether at least half of the pictures are in the listing, unchanged."""
        files = {_relative(path, listing.root) for path, _ in listing.files}
        there = sum(
            row.file in files and _size(listing.root / row.file) == row.bytes
            for row in self.rows
        )
        return there > 0 and 2 * there >= len(self.rows)

    def apply(self, listing: Listing, log: Callable[[str], object]) -> Listing:
        """Gives the pictures of a listing the splits that they had.

        Pictures that are new are left out; `log` is called with a line that says so,
        and how many are missing or changed. Without any change the listing is returned
        as it is.

        Raises:
            ValueError: If the classes differ, or most of the pictures are not there.
        """
        self._check_classes(listing)
        if not self.matches(listing):
            raise ValueError(
                f"{listing.root} does not hold the pictures that the run learned from: "
                f"of {len(self.rows)} most are missing or have changed. Name the "
                "folder that they are in now, or start a new run."
            )
        found = {_relative(path, listing.root): (path, x) for path, x in listing.files}
        known = {row.file for row in self.rows}
        changes = {
            "new, and left out": [file for file in found if file not in known],
            "missing": [row.file for row in self.rows if row.file not in found],
            "of another size": [
                row.file
                for row in self.rows
                if row.file in found and _size(found[row.file][0]) != row.bytes
            ],
        }
        changes = {change: files for change, files in changes.items() if files}
        if not changes:
            return listing
        described = "; ".join(
            f"{len(files)} {change}: {list_names(files, 3)}"
            for change, files in changes.items()
        )
        log(f"the pictures have changed since the run began: {described}")

        def files_of(split: str) -> LabeledPaths:
            rows = (row for row in self.rows if row.split == split)
            return [found[row.file] for row in rows if row.file in found]

        return dataclasses.replace(
            listing,
            train=files_of("train"),
            validation=files_of("validation"),
            test=files_of("test") or None,
        )

    def _check_classes(self, listing: Listing) -> None:
        then, now = self.class_names, listing.class_names
        if then == now:
            return
        changes = [
            f"{change} {list_names(names, 5)}"
            for change, names in (
                ("missing now:", [name for name in then if name not in now]),
                ("new:", [name for name in now if name not in then]),
            )
            if names
        ]
        raise ValueError(
            f"The classes in {listing.root} are not those that the run learned: "
            f"{'; '.join(changes)}. Give the folders their names back, or start a new "
            "run."
        )


def _relative(path: str | Path, root: Path) -> str:
    # much faster than Path's own methods
    return os.path.relpath(path, root).replace(os.sep, "/")


def _size(path: str | Path) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:
        return None
