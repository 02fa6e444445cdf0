"""The files of a dataset that are not read as pictures of a class, and why."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST_NAMED = 10
NO_PICTURE = "not pictures"


class PassedOver:
    """Files that are left out on purpose, by reason; damaged pictures are not here.

    Args:
        files: Each file with the reason.
    """

    def __init__(self, files: Iterable[tuple[Path, str]] = ()):
        self._files: dict[str, list[str]] = {}
        for path, reason in files:
            self.add(path, reason)

    def __len__(self) -> int:
        return sum(map(len, self._files.values()))

    def add(self, path: str | Path, reason: str) -> None:
        """Adds a file."""
        self._files.setdefault(reason, []).append(str(path))

    def files(self, reason: str) -> list[str]:
        """The files passed over for one reason."""
        return self._files.get(reason, [])

    def report(self) -> list[dict[str, Any]]:
        """Returns reason, count, count by suffix, and the first ten, for JSON."""
        return [
            {
                "reason": reason,
                "count": len(files),
                "suffixes": _count_suffixes(files),
                "files": files[:MOST_NAMED],
            }
            for reason, files in self._files.items()
        ]

    def describe(self) -> str:
        """Counts by reason and suffix, in one line.

        Example:
        >>> PassedOver([(Path("a/notes.txt"), NO_PICTURE)]).describe()
        '1 not pictures (.txt 1)'
        """
        return "; ".join(
            f"{row['count']} {row['reason']} "
            f"({', '.join(f'{k} {v}' for k, v in row['suffixes'].items())})"
            for row in self.report()
        )


def _count_suffixes(files: list[str]) -> dict[str, int]:
    """Numbers of files by suffix in lower case, the most common first."""
    counts: dict[str, int] = {}
    for file in files:
        suffix = os.path.splitext(file)[1].lower() or "no suffix"
        counts[suffix] = counts.get(suffix, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
