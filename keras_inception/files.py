"""Writes files whole or not at all, reads JSON, and locks files."""

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write(partial)` for a file beside `path`, then renames it to `path`."""
    # The suffix is kept, since Keras chooses the format by it.
    partial = path.with_name(f".partial-{path.name}")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror or error}). A file that was "
            "there before is intact."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON file whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    write_whole(path, lambda partial: partial.write_text(text))


def read_json(path: Path) -> Any:
    """Reads a JSON file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}") from None
    except ValueError:
        raise ValueError(f"{path} is not a JSON file.") from None


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Writes a CSV file whole or not at all; its first line is `columns`."""

    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])

    write_whole(path, write)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Locks a file while the block runs; yields `False` if another holder has it.

    The system releases the lock however the process ends. Shared locks are allowed at
    the same time; an exclusive one creates the file. On Windows, which has no such
    locks, this always yields `True`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = Path(folder, "lock")
    ...     with locked(lock) as first, locked(lock) as second:
    ...         print(first, second)
    True False
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("rb" if shared else "ab") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free
