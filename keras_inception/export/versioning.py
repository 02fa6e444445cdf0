"""Version directories `NAME/1`, `NAME/2`, ..., each complete or absent.

TF Serving may load a directory whose name is a number at any moment, and ignores all
other names. So an incomplete version has another name, and becomes a version, or ceases
to be one, by a single rename.
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


def versions(directory: str | Path) -> list[int]:
    """The version numbers in a model's directory, in ascending order."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    names = (entry.name for entry in directory.iterdir() if entry.is_dir())
    return sorted(int(name) for name in names if _is_number(name))


def path_of(directory: str | Path, version: int) -> Path:
    """The path of a version; `00000123` is version 123, as in TF Serving."""
    for entry in Path(directory).iterdir():
        if _is_number(entry.name) and int(entry.name) == version and entry.is_dir():
            return entry
    raise FileNotFoundError(f"{directory} has no version {version}")


@contextlib.contextmanager
def being_written(directory: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside the versions, and deletes it afterwards.

    Also deletes what killed exports on this machine left behind.
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
    """Makes the path of `being_written` a version by renaming it; returns its path.

    The version defaults to the highest that exists or was withdrawn, plus one.
    """
    directory = Path(directory)
    _flush(partial)
    while True:
        number = version or _highest_ever(directory) + 1
        path = directory / str(number)
        try:
            if not path.exists():  # rename would replace an empty directory
                return partial.rename(path)
        except OSError:
            if not path.exists():
                raise
        if version is not None:
            raise _version_exists(path)


def check_version(directory: str | Path, version: int | None) -> None:
    """Checks a requested version before any work is spent on it."""
    if version is None:
        return
    if version < 1:
        raise ValueError(f"version must be a number from 1. Received: {version}")
    for name in (str(version), f"withdrawn-{version}"):
        if (Path(directory) / name).exists():
            raise _version_exists(Path(directory) / name)


def rollback(directory: str | Path) -> tuple[int, int]:
    """Withdraws the highest version, so that servers return to the one before it.

    Renames its directory to `withdrawn-VERSION`. Nothing is deleted, and the number is
    not used again.

    Returns:
        `(withdrawn, highest)`: the withdrawn version, and the highest one left.

    Raises:
        ValueError: If the directory has fewer than two versions.
    """
    found = versions(directory)
    if len(found) < 2:
        raise ValueError(
            f"{directory} has {len(found)} version(s); a rollback needs at least two."
        )
    path_of(directory, found[-1]).rename(Path(directory) / f"withdrawn-{found[-1]}")
    return found[-1], found[-2]


def prune(directory: str | Path, keep: int) -> list[int]:
    """Deletes all but the `keep` highest versions; returns those deleted.

    Each is renamed before its files are deleted, so that no reader sees a part of one.
    A server that has loaded it is not disturbed.

    Raises:
        ValueError: If `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"At least 1 version must be kept. Received: {keep}")
    deleted = []
    for version in versions(directory)[:-keep]:
        renamed = Path(directory) / _partial_name()
        with contextlib.suppress(FileNotFoundError):  # another process prunes as well
            path_of(directory, version).rename(renamed)
            deleted.append(version)
            shutil.rmtree(renamed, ignore_errors=True)
    return deleted


def _version_exists(path: Path) -> FileExistsError:
    return FileExistsError(
        f"{path} exists. A version is never overwritten, since TF Serving may be "
        "reading it, and a number is used only once. Choose another, or none for the "
        "next."
    )


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _highest_ever(directory: Path) -> int:
    # includes plain files: they are not versions, but block the name
    names = (entry.name.removeprefix("withdrawn-") for entry in directory.iterdir())
    return max(map(int, filter(_is_number, names)), default=0)


def _partial_name() -> str:
    return f".partial-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _is_abandoned(name: str) -> bool:
    match = _PARTIAL.fullmatch(name)
    if not match or match["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(match["process"]), 0)
    except OSError as error:  # a PermissionError: the process belongs to another user
        return isinstance(error, ProcessLookupError)
    return False


def _flush(path: Path) -> None:
    """Flushes files to disk: after a crash, a rename may be kept but not contents."""
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
