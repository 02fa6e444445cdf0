"""Versions on disk: `NAME/1`, `NAME/2`, ..., each whole or not there.

TF Serving takes every directory with a number for a name as a version, at any moment,
and passes over all other names. So whatever is not whole has another name, and becomes
or ceases to be a version by one rename.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

_PARTIAL = re.compile(r"\.partial-(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{8}")
_WITHDRAWN = re.compile(r"withdrawn-(?P<version>\d+)")


def versions(directory: str | Path) -> list[int]:
    """The versions in a model's directory, in rising order."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    names = (entry.name for entry in directory.iterdir() if entry.is_dir())
    return sorted(int(name) for name in names if _is_number(name))


def path_of(directory: str | Path, version: int) -> Path:
    """Where a version is; TF Serving reads `00000123` as 123, and so does this."""
    for entry in Path(directory).iterdir():
        if _is_number(entry.name) and int(entry.name) == version and entry.is_dir():
            return entry
    raise FileNotFoundError(f"{directory} has no version {version}")


@contextlib.contextmanager
def being_written(directory: str | Path) -> Iterator[Path]:
    """A path beside the versions to write a new one to; it is gone afterwards.

    Leftovers of processes that were killed on this machine are removed.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for entry in directory.iterdir():
        if _is_abandoned(entry.name):
            shutil.rmtree(entry, ignore_errors=True)
    partial = directory / _partial_name()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, directory: str | Path, version: int | None) -> Path:
    """Makes what was written a version, by renaming it.

    Args:
        partial: From `being_written`, complete.
        directory: Of the versions.
        version: A number that is not there yet; `None`: one more than the highest that
            is there or was withdrawn.

    Raises:
        FileExistsError: If the version exists already.
    """
    directory = Path(directory)
    _flush(partial)
    while True:
        number = version or _highest_ever(directory) + 1
        place = directory / str(number)
        try:
            if not place.exists():  # rename would replace an empty directory
                return partial.rename(place)
        except OSError:
            if not place.exists():
                raise
        if version is not None:
            raise FileExistsError(
                f"{place} exists, and a version is never overwritten: TF Serving may "
                "be reading it. Choose another number, or leave it out for the next."
            )


def check_version(directory: str | Path, version: int | None) -> None:
    """Refuses a wanted version that can't be, before hours of work are lost on it."""
    if version is None:
        return
    if version < 1:
        raise ValueError(f"A version is a number from 1. Received: {version}")
    for name in (str(version), f"withdrawn-{version}"):
        if (Path(directory) / name).exists():
            raise FileExistsError(
                f"{Path(directory) / name} exists: a number is given once, and a "
                "version is never overwritten. Choose another, or leave it out for the "
                "next."
            )


def rollback(directory: str | Path) -> tuple[int, int]:
    """Withdraws the highest version, so that the one before it is served again.

    The directory is renamed to `withdrawn-VERSION`; nothing is deleted, and the number
    is not given again.

    Returns:
        `(withdrawn, now served)`.

    Raises:
        ValueError: If there is no version to go back to.
    """
    found = versions(directory)
    if len(found) < 2:
        raise ValueError(
            f"{directory} has {len(found)} version(s); going back needs at least two."
        )
    path_of(directory, found[-1]).rename(Path(directory) / f"withdrawn-{found[-1]}")
    return found[-1], found[-2]


def prune(directory: str | Path, keep: int) -> list[int]:
    """Deletes all but the highest versions, and says which.

    Each stops being a version by one rename before its files go, so that no reader
    finds half of one. A server that has it loaded is not disturbed.

    Raises:
        ValueError: If `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"At least 1 version must be kept. Received: {keep}")
    gone = []
    for version in versions(directory)[:-keep]:
        doomed = Path(directory) / _partial_name()
        with contextlib.suppress(FileNotFoundError):  # another process prunes as well
            path_of(directory, version).rename(doomed)
            gone.append(version)
            shutil.rmtree(doomed, ignore_errors=True)
    return gone


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _highest_ever(directory: Path) -> int:
    names = [entry.name for entry in directory.iterdir()]
    withdrawn = map(_WITHDRAWN.fullmatch, names)
    numbers = [int(match["version"]) for match in withdrawn if match]
    # a file of such a name is no version, but in the way of one
    return max([*map(int, filter(_is_number, names)), *numbers], default=0)


def _partial_name() -> str:
    return f".partial-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _is_abandoned(name: str) -> bool:
    match = _PARTIAL.fullmatch(name)
    if not match or match["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(match["process"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, and is another user's
        return False
    return False


def _flush(path: Path) -> None:
    """Waits until the files are on the disk: a rename can survive a crash they don't"""
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
