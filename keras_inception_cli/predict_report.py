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
    that shows where each output looks, with `--explain`; `exit` the output that
    answered, with `--early-exit`.
    """

    picture: str
    classes: Sequence[tuple[str, float]] = ()
    fault: str | None = None
    maps: str | None = None
    exit: str | None = None


def print_answer(answer: Answer, as_json: bool) -> None:
    """Prints an answer on stdout; a fault also, or only, on stderr, in one line."""
    name, classes, fault, maps, exit = answer
    shown = name.replace("\n", r"\n")  # `safe_output` escapes the rest
    if fault is not None:
        line = f"keras-inception: error: {shown}: {' '.join(fault.split())}"
        print(line, file=sys.stderr, flush=True)
    if as_json:
        # Of classes with the same name, as ImageNet has, the better one counts.
        best = {name: score for name, score in reversed(classes)}
        best = {name: best[name] for name, _ in classes}
        outcome = {"classes": best} if fault is None else {"error": fault}
        others = {"maps": maps, "exit": exit}
        others = {key: value for key, value in others.items() if value is not None}
        print(json.dumps({"image": name, **outcome, **others}))
    elif fault is None:
        ranked = ", ".join(f"{label} {score:.3f}" for label, score in classes)
        print(f"{shown}: {ranked}" + (f"  ({exit})" if exit else ""))


class Table:
    """Rows for a CSV file: picture, `classes` pairs of class and score, error.

    Further columns are named by `more`, fields of `Answer`.
    """

    def __init__(self, classes: int, more: Sequence[str] = ()):
        self._classes, self._more = classes, more
        # Rows wait on the disk: there may be millions, and the file appears whole.
        self._rows = tempfile.TemporaryFile(  # noqa: SIM115, see __exit__
            "w+", encoding="utf-8", errors="backslashreplace", newline=""
        )
        pairs = ((f"class_{n}", f"score_{n}") for n in range(1, classes + 1))
        columns = ["picture", *(x for pair in pairs for x in pair), "error", *more]
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
        more = (getattr(answer, name) or "" for name in self._more)
        self._writer.writerow([answer.picture, *cells, answer.fault or "", *more])

    def write(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        from keras_inception.files import write_whole

        def copy(partial: Path) -> None:
            self._rows.seek(0)
            with partial.open("w", encoding="utf-8", newline="") as file:
                shutil.copyfileobj(self._rows, file)

        write_whole(path, copy)
