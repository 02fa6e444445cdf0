"""The answers of `predict` as text, JSON lines and a CSV file."""

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    """The best classes of a picture, or the fault that prevented an answer.

    Has neither if it was found in a folder and is not a picture. `maps` is the file
    that shows where each output looks, with `--explain`.
    """

    picture: str
    classes: Sequence[tuple[str, float]] = ()
    fault: str | None = None
    maps: str | None = None


def print_answer(answer: Answer, as_json: bool) -> None:
    """Prints an answer on stdout; a fault also, or only, on stderr, in one line."""
    name, classes, fault, maps = answer
    shown = name.replace("\n", r"\n")  # `safe_output` escapes the rest
    if fault is not None:
        line = f"keras-inception: error: {shown}: {' '.join(fault.split())}"
        print(line, file=sys.stderr, flush=True)
    if as_json:
        told = {"classes": dict(classes)} if fault is None else {"error": fault}
        files = {} if maps is None else {"maps": maps}
        print(json.dumps({"image": name, **told, **files}))
    elif fault is None:
        ranked = ", ".join(f"{label} {score:.3f}" for label, score in classes)
        print(f"{shown}: {ranked}")


class Table:
    """Rows for a CSV file: picture, `classes` pairs of class and score, error.

    With `explained` a last column names the file of the maps.
    """

    def __init__(self, classes: int, explained: bool = False):
        self._classes, self._explained = classes, explained
        # Rows wait on the disk: there may be millions, and the file appears whole.
        self._rows = tempfile.TemporaryFile(  # noqa: SIM115, see __exit__
            "w+", encoding="utf-8", errors="backslashreplace", newline=""
        )
        pairs = ((f"class_{n}", f"score_{n}") for n in range(1, classes + 1))
        columns = ["picture", *(x for pair in pairs for x in pair), "error"]
        columns += ["maps"] if explained else []
        self._writer = csv.writer(self._rows)
        self._writer.writerow(columns)

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def add(self, answer: Answer) -> None:
        """Adds the row of a picture."""
        cells = [x for label, score in answer.classes for x in (label, f"{score:.6f}")]
        cells += [""] * (2 * self._classes - len(cells))
        row = [answer.picture, *cells, answer.fault or ""]
        self._writer.writerow(row + [answer.maps or ""] * self._explained)

    def write(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        from keras_inception.files import write_whole

        def copy(partial: Path) -> None:
            self._rows.seek(0)
            with partial.open("w", encoding="utf-8", newline="") as file:
                shutil.copyfileobj(self._rows, file)

        write_whole(path, copy)
