"""The directory of a search: one search's, and one process's at a time."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from keras_inception.files import write_json
from tuning.results import CHOICES, TRIALS

KEPT = {"logs", TRIALS}  # what workers may make before the chief comes here


@contextlib.contextmanager
def kept(directory: Path, choices: dict, *, overwrite: bool) -> Iterator[None]:
    """Within the block the search's directory is this process's, its choices written.

    Args:
        directory: Made if it is not there.
        choices: What makes the search: those that are kept must be the same, but for
            the number of trials.
        overwrite: Whether to delete an earlier search.

    Raises:
        ValueError: If the directory holds another search.
        FileExistsError: If it holds something else, or a process searches there.
    """
    file = directory / CHOICES
    entries = {path.name for path in directory.glob("[!.]*")}
    if not file.is_file() and entries - KEPT:
        raise FileExistsError(
            f"{directory} is there already and is no search; choose another "
            "--directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        _lock(lock, directory)
        if overwrite and file.is_file():
            for entry in directory.glob("[!.]*"):
                if entry.name != "logs":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if file.is_file():
            before = json.loads(file.read_text())
            differs = [
                f"{name} {before.get(name)!r}, not {value!r}"
                for name, value in json.loads(json.dumps(choices)).items()
                if name != "trials" and before.get(name) != value
            ]
            if differs:
                raise ValueError(
                    f"{directory} holds a search with other choices: "
                    f"{'; '.join(differs)}. Give the same ones to go on with it, "
                    "--overwrite to delete it, or another --directory."
                )
        write_json(file, choices)
        yield


def _lock(file, directory: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise FileExistsError(
            f"Another process searches in {directory}; let it end, or end it."
        ) from None
