"""Writes files whole or not at all, and reads those that people edit."""

import contextlib
import csv
import io
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_inception.locks import tried
from keras_inception.schema import check

_PARTIAL = re.compile(r"(?P<stem>\.partial-.+-\d+-[0-9a-f]{8})(\..*)?")
_DAY = 24 * 60 * 60  # seconds


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write(partial)` for a file beside `path`, then renames it to `path`.

    A device or a pipe, such as `/dev/stdout`, is written to itself.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        write(path)
        return
    try:
        # The suffix is kept, since Keras chooses the format by it.
        with partial_path(path.parent, path.suffix[:16]) as partial:
            write(partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror or error}). A file that was "
            "there before is intact."
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    write_whole(path, lambda partial: partial.write_bytes(content))


def write_text(path: Path, content: str) -> None:
    """Writes a text file, in UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Sequence],
    errors: str | None = None,
) -> None:
    """Writes a CSV file whole or not at all.

    Args:
        path: The file.
        columns: Its first line.
        rows: The others.
        errors: What `open` does with text that is not UTF-8. Defaults to an error.
    """

    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8", errors=errors) as file:
            csv.writer(file).writerows([columns, *rows])

    write_whole(path, write)


def read_json(path: Path, form: Any = Any, fault: str = "is damaged") -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        form: The type of its content, as `schema.check` takes it. Defaults to any.
        fault: Follows the path in errors: `"is not the result.json of a run"`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or its content has another form.
    """
    content = parse_json(_read(path), f"{path} {fault}: it")
    check(content, form, f"{path} {fault}")
    return content


def parse_json(data: bytes, subject: str) -> Any:
    """Parses JSON; a `ValueError` that begins with `subject` if it is not JSON."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ValueError(f"{subject} is not a JSON file.") from None


def read_csv(path: Path, fault: str = "is damaged") -> list[list[str]]:
    """Reads the lines of a CSV file; `fault` as in `read_json`."""
    try:
        text = _read(path).decode("utf-8-sig")
        return list(csv.reader(io.StringIO(text, newline="")))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} {fault}: it is not a CSV file ({error}).") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}") from None


@contextlib.contextmanager
def partial_path(directory: Path, suffix: str = "") -> Iterator[Path]:
    """Yields a new path in a directory; afterwards deletes whatever is at it.

    The name begins with `.partial-`, and a locked file beside it shows that its process
    is alive. The leftovers of killed processes in the directory are deleted first;
    those without a lock, as on a file system that has none, once they are a day old.
    """
    _delete_abandoned(directory)
    stem = f".partial-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    path, lock = directory / (stem + suffix), directory / f"{stem}.lock"
    with tried(lock, create=True):
        try:
            yield path
        finally:
            delete(path)
            delete(lock)


def delete(path: Path) -> None:
    """Deletes a file, a link (not its target) or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _delete_abandoned(directory: Path) -> None:
    partials: dict[str, list[Path]] = {}
    for name in os.listdir(directory):
        if match := _PARTIAL.fullmatch(name):
            partials.setdefault(match["stem"], []).append(directory / name)
    for stem, paths in partials.items():
        lock = directory / f"{stem}.lock"
        # errors: another process deletes them too, or another user owns them
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            free = None
            if lock in paths:  # earlier versions wrote none
                free = stack.enter_context(tried(lock, create=False))
            if free or (free is None and all(map(_is_old, paths))):
                for path in sorted(paths, key=lock.__eq__):  # the lock last
                    delete(path)


def _is_old(path: Path) -> bool:
    return path.lstat().st_mtime < time.time() - _DAY


@contextlib.contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """Yields another path to the same place if TensorFlow can't take this one.

    TensorFlow reads `[`, `]`, `*`, `?` and backslashes as patterns, and accepts only
    UTF-8.
    """
    if is_plain(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "link")
        link.symlink_to(path.absolute())
        yield link


def is_plain(path: Path) -> bool:
    """Whether TensorFlow takes a path as it is; see `plain_path`."""
    return not re.search(r"[][*?\\\udc80-\udcff]", str(path))
