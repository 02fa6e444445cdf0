"""An evaluation as a page: figures, the classes, the mistakes and their maps."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_inception import html_report as html
from keras_inception.evaluation.evaluate import Evaluation
from keras_inception.files import write_text

CAPTIONS = {
    "confusion.png": "True classes in rows, predicted ones in columns.",
    "mistakes.png": "The most confident mistakes, worst first.",
    "maps.png": "Where each output finds the class that it answers, for the worst "
    "mistakes: yellow speaks for it, purple does not. The maps are those of the "
    "centered square.",
}


def write_report(
    directory: Path,
    result: Evaluation,
    title: str,
    outputs: tuple[Sequence[str], Sequence[Sequence[object]]],
    sentences: Sequence[str],
    drawings: Sequence[str],
) -> None:
    """Writes `report.html` into a directory that has the drawings already.

    Args:
        directory: With the drawings, which the page holds.
        result: For the table of classes.
        title: The page's.
        outputs: The columns and rows of a table with a row for each output.
        sentences: The figures of the main output, one sentence each.
        drawings: Files of the directory, in their order on the page, keys of
            `CAPTIONS`.
    """
    figures = [
        html.figure((directory / file).read_bytes(), CAPTIONS[file])
        for file in drawings
    ]
    page = html.page(
        title,
        html.table(*outputs),
        html.paragraphs(sentences),
        *figures,
        html.heading("Classes"),
        html.table(*_classes(result.class_names, result.per_class)),
    )
    path = directory / "report.html"
    write_text(path, page)


def _classes(
    names: Sequence[str], scores: Mapping[str, np.ndarray]
) -> tuple[list[str], list[list[object]]]:
    columns = ("pictures", "precision", "recall", "f1")
    rows = [
        [name, int(count), *("-" if math.isnan(x) else f"{x:.4f}" for x in figures)]
        for name, count, *figures in zip(
            names, *(scores[column] for column in columns), strict=True
        )
    ]
    return ["class", *columns[:-1], "F1"], rows
