"""Files that are written whole or not at all."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write(partial)` make a file beside `path`, and renames it into place.

    Raises:
        OSError: If it could not be written; nothing of it is left, and what was at
            `path` is intact.
    """
    # of the same ending, since Keras tells formats by it
    partial = path.with_name(f".partial-{path.name}")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror or error}); what it held "
            "before, if anything, is intact."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON file whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    write_whole(path, lambda partial: partial.write_text(text))


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        FileNotFoundError, ValueError: If there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}") from None
    except ValueError:
        raise ValueError(f"{path} is not a JSON file.") from None


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Writes a CSV file whole or not at all, `columns` in its first line."""

    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])

    write_whole(path, write)
