"""Version directories `NAME/1`, `NAME/2`, ..., each complete or absent.

TF Serving may load a directory whose name is a number at any moment, and ignores all
other names. So an incomplete version has another name, and becomes a version, or ceases
to be one, by a single rename. A process that chooses a number or renames holds
`NAME/.lock`; `.NAME.versions.json` beside `NAME` remembers all numbers ever given.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from keras_inception.files import partial_path, plain_path, read_json, write_json
from keras_inception.locks import locked

HIGHEST = 2**63 - 1  # TF Serving's versions are int64
_PATIENCE = 60.0  # seconds to wait for another process that publishes or prunes


def versions(directory: str | Path) -> list[int]:
    """The version numbers in a model's directory, in ascending order."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    entries = filter(_is_version, directory.iterdir())
    return sorted({int(entry.name) for entry in entries})


def path_of(directory: str | Path, version: int) -> Path:
    """The path of a version; `00000123` is version 123 unless `123` exists."""
    found = _paths_of(Path(directory), version)
    if not found:
        raise FileNotFoundError(f"{directory} has no version {version}")
    return found[0]


@contextlib.contextmanager
def being_written(directory: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside the versions, and deletes it afterwards.

    Also deletes what killed exports left behind. TensorFlow can write to the path even
    where it can't take the directory's own.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with plain_path(directory) as plain, partial_path(plain) as partial:
        yield partial


def publish(partial: Path, directory: str | Path, version: int | None) -> Path:
    """Makes the path of `being_written` a version by renaming it; returns its path.

    The version defaults to the highest that was ever given, plus one.
    """
    directory = Path(directory)
    _flush(partial)
    with _alone(directory):
        while True:
            given = _given(directory)
            number = max(given, default=0) + 1 if version is None else version
            _check_number(directory, number, given)
            # First, so that a process killed in between gives no number twice.
            _record(directory, given | {number})
            path = directory / str(number)
            try:
                return partial.rename(path)
            except OSError:  # on a file system without locks another may be faster
                if version is not None or not path.exists():
                    raise


def check_version(directory: str | Path, version: int | None) -> None:
    """Checks a model's directory and a requested version before work is spent on it."""
    directory = Path(directory)
    try:
        directory.name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            "Servers name a model by its directory, whose name must be in UTF-8. "
            f"Received: {directory.name!r}"
        ) from None
    if version is not None:
        _check_number(directory, version, _given(directory))


def rollback(directory: str | Path) -> tuple[int, int]:
    """Withdraws the highest version, so that servers return to the one before it.

    Renames its directory to `withdrawn-VERSION` (`withdrawn-VERSION-2`, ... if there is
    one). Nothing is deleted, and the number is not used again.

    Returns:
        `(withdrawn, highest)`: the withdrawn version, and the highest one left.

    Raises:
        ValueError: If the directory has fewer than two versions.
    """
    directory = Path(directory)
    with _alone(directory):
        found = versions(directory)
        if len(found) < 2:
            raise ValueError(
                f"{directory} has {len(found)} version(s); a rollback needs at least "
                "two."
            )
        for path in _paths_of(directory, found[-1]):
            path.rename(_unused(directory / f"withdrawn-{found[-1]}"))
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
    directory = Path(directory)
    with contextlib.ExitStack() as deleted_at_the_end, _alone(directory):
        deleted = versions(directory)[:-keep]
        for path in (p for n in deleted for p in _paths_of(directory, n)):
            partial = partial_path(directory)
            path.rename(deleted_at_the_end.enter_context(partial))
    return deleted


_TAKEN = re.compile(r"([0-9]+)|withdrawn-([0-9]+)(-[0-9]+)?")


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keeps other processes from giving or taking away numbers within the block.

    First records the numbers that are there, which the block or people may delete.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no directory {directory} with versions.")
    with locked(directory / ".lock", wait=_PATIENCE, temporary=True) as free:
        if not free:
            raise RuntimeError(
                f"Another process has held {directory / '.lock'} for {_PATIENCE:.0f} "
                "seconds. Stop it, and try again."
            )
        _record(directory, _given(directory))
        yield


def _given(directory: Path) -> set[int]:
    """All numbers that can't be given again."""
    if not directory.is_dir():
        return set()
    record = _record_of(directory)
    given: list[int] = []
    if record.is_file():
        fault = "is damaged; it records the version numbers. Delete it"
        given = read_json(record, {"given": list[int]}, fault).get("given", [])
    # plain files too: they are not versions, but block the name
    names = (_TAKEN.fullmatch(entry.name) for entry in directory.iterdir())
    taken = (int(match[1] or match[2]) for match in names if match)
    return {number for number in (*given, *taken) if number <= HIGHEST}


def _record(directory: Path, given: Iterable[int]) -> None:
    try:
        write_json(_record_of(directory), {"given": sorted(given)})
    except OSError as error:
        logging.getLogger(__name__).warning(
            f"Numbers of versions that are deleted by hand may be used again: {error}"
        )


def _record_of(directory: Path) -> Path:
    directory = directory.resolve()
    name = os.fsdecode(os.fsencode(directory.name)[:200])  # names have 255 bytes
    return directory.with_name(f".{name}.versions.json")


def _check_number(directory: Path, number: int, given: Iterable[int]) -> None:
    if not 1 <= number <= HIGHEST:
        raise ValueError(
            f"version must be a number from 1 to {HIGHEST}. Received: {number}"
        )
    if number in given:
        raise FileExistsError(
            f"{directory} has, or had, a version {number}. A version is never "
            "overwritten, since TF Serving may be reading it, and a number is used "
            "only once. Choose another, or leave it out for the next number."
        )


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and int(name) <= HIGHEST


def _is_version(entry: Path) -> bool:
    return _is_number(entry.name) and entry.is_dir()


def _paths_of(directory: Path, version: int) -> list[Path]:
    """The directories with a version's number; TF Serving reads the first."""
    entries = filter(_is_version, directory.iterdir())
    found = [entry for entry in entries if int(entry.name) == version]
    return sorted(found, key=lambda entry: (len(entry.name), entry.name))


def _unused(path: Path) -> Path:
    number = 1
    unused = path
    while os.path.lexists(unused):
        number += 1
        unused = path.with_name(f"{path.name}-{number}")
    return unused


def _flush(path: Path) -> None:
    """Flushes files to disk: after a crash, a rename may be kept but not contents."""
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
