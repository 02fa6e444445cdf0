"""The directory of a search, held by one process at a time."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_inception.files import locked, write_json
from tuning.results import CHOICES, TRIALS

FROM_WORKERS = {"logs", TRIALS}  # workers may create these before the chief starts


@contextlib.contextmanager
def hold_directory(
    directory: Path, choices: Mapping[str, Any], *, overwrite: bool
) -> Iterator[None]:
    """Holds a search's directory for this process, its choices written to it.

    Args:
        directory: Created if it does not exist.
        choices: The arguments of the search. A resumed search must have the same ones,
            except for the number of trials.
        overwrite: Whether to delete an earlier search.

    Raises:
        ValueError: If the directory holds a search with other choices.
        FileExistsError: If it holds something other than a search, or another process
            searches in it.
    """
    file = directory / CHOICES
    entries = {path.name for path in directory.glob("[!.]*")}
    if not file.is_file() and entries - FROM_WORKERS:
        raise FileExistsError(
            f"{directory} already exists and is not a search's directory. Use another "
            "--directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / ".lock") as free:
        if not free:
            raise FileExistsError(
                f"Another process is searching in {directory}. Wait for it, or stop it."
            )
        if overwrite and file.is_file():
            for entry in directory.glob("[!.]*"):
                if entry.name != "logs":  # the workers of this search write there
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if file.is_file():
            before = json.loads(file.read_text())
            differences = [
                f"{name} was {before.get(name)!r}, is {value!r}"
                for name, value in json.loads(json.dumps(choices)).items()
                if name != "trials" and before.get(name) != value
            ]
            if differences:
                raise ValueError(
                    f"{directory} holds a search with other choices: "
                    f"{'; '.join(differences)}. Use the same ones to resume it, "
                    "--overwrite to delete it, or another --directory."
                )
        write_json(file, dict(choices))
        yield
