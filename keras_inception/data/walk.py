"""The files below a folder, and which of them a system or a program put there."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

HIDDEN = "hidden, or in a hidden folder"
MACHINE_MADE = "made by a system or a program"

# Names in lower case. Those that begin with a dot are hidden.
_MACHINE_MADE_FOLDERS = {
    *("@eadir", "#recycle", "@recycle", "@recently-snapshot"),  # network storage
    *("#snapshot", "~snapshot", "network trash folder", "temporary items"),
    *("__macosx", "$recycle.bin", "recycler", "system volume information"),
    "lost+found",
    *("__pycache__", "node_modules"),
}
_MACHINE_MADE_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


class Found(NamedTuple):
    """A file, and the reason to pass it over, `None` if there is none."""

    path: Path
    reason: str | None


def walk(folder: Path, without: Collection[Path] = ()) -> Iterator[Found]:
    """Yields every file below a folder, ordered by name at each level.

    Leaves out the folders `without`. Does not follow links to folders, which could form
    a circle.
    """
    yield from _walk(folder, None, without)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden and machine-made ones."""
    with os.scandir(folder) as entries:
        names = [x.name for x in entries if _is_folder(x) and not _reason(x.name, True)]
    return [folder / name for name in sorted(names)]


def _walk(
    folder: Path, reason: str | None, without: Collection[Path] = ()
) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = folder / entry.name
        if path in without:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, reason or _reason(entry.name, True))
        elif not _is_folder(entry):
            yield Found(path, reason or _reason(entry.name, False))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _reason(name: str, is_folder: bool) -> str | None:
    machine_made = _MACHINE_MADE_FOLDERS if is_folder else _MACHINE_MADE_FILES
    if name.lower() in machine_made:
        return MACHINE_MADE
    return HIDDEN if name.startswith(".") else None
