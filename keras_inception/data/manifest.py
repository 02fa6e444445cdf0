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
from keras_inception.text import list_names, normal_form

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
        there = sum(
            not _is_resized(row, now)
            and not _is_relabeled(row, now, listing.class_names)
            for row, now in self._rows_now(listing)
            if now
        )
        return there > 0 and 2 * there >= len(self.rows)

    def apply(self, listing: Listing, log: Callable[[str], object]) -> Listing:
        """Gives the pictures of a listing the splits that they had.

        Pictures that are new are left out; `log` is called with a line that says so,
        and how many are missing or changed, or have another label now, which counts.
        Without any change the listing is returned as it is.

        Raises:
            ValueError: If the classes differ, or most of the pictures are not there.
        """
        self._check_classes(listing)
        if not self.matches(listing):
            raise ValueError(
                f"{listing.root} does not hold the pictures that the run learned from: "
                f"of {len(self.rows)} most are missing, have changed or have other "
                "labels. Name the folder that they are in now, or start a new run."
            )
        rows_now, names = self._rows_now(listing), listing.class_names
        there = [(row, now) for row, now in rows_now if now]
        known = {path for _, (path, _) in there}
        changes = {
            "new, and left out": [
                _relative(path, listing.root)
                for path, _ in listing.files
                if path not in known
            ],
            "missing": [row.file for row, now in rows_now if not now],
            "of another size": [r.file for r, now in there if _is_resized(r, now)],
            "with another label": [
                row.file for row, now in there if _is_relabeled(row, now, names)
            ],
        }
        changes = {change: files for change, files in changes.items() if files}
        renamed = any(_relative(now[0], listing.root) != row.file for row, now in there)
        if not changes and not renamed:
            return listing
        described = "; ".join(
            f"{len(files)} {change}: {list_names(files, 3)}"
            for change, files in changes.items()
        )
        if changes:
            log(f"the pictures have changed since the run began: {described}")

        def files_of(split: str) -> LabeledPaths:
            return [now for row, now in there if row.split == split]

        return dataclasses.replace(
            listing,
            train=files_of("train"),
            validation=files_of("validation"),
            test=files_of("test") or None,
        )

    def _rows_now(self, listing: Listing) -> list[tuple[Row, tuple[Path, int] | None]]:
        """Each row with its path and label in the listing, `None` if it is not there.

        A copy of the folder on another file system may write é in another way.
        """
        found = {_relative(path, listing.root): (path, x) for path, x in listing.files}
        by_form = {normal_form(file): now for file, now in found.items()}
        return [
            (row, found.get(row.file) or by_form.get(normal_form(row.file)))
            for row in self.rows
        ]

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


def _is_resized(row: Row, now: tuple[Path, int]) -> bool:
    return _size(now[0]) != row.bytes


def _is_relabeled(row: Row, now: tuple[Path, int], class_names: list[str]) -> bool:
    return row.split != UNUSED and class_names[now[1]] != row.label


def _relative(path: str | Path, root: Path) -> str:
    # much faster than Path's own methods
    return os.path.relpath(path, root).replace(os.sep, "/")


def _size(path: str | Path) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:
        return None
