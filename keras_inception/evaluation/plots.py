"""Drawings of an evaluation, as PNG files."""

from pathlib import Path

import numpy as np

from keras_inception.evaluation.evaluate import Evaluation

_MOST_NAMED = 50  # classes whose names still fit beside the table
_MOST_COUNTED = 20  # classes whose counts still fit into the cells


def draw_confusion(evaluation: Evaluation, path: str | Path) -> None:
    """Draws the confusion table: true classes in rows, predicted ones in columns.

    Colors are fractions of the row, so that rare classes stay visible; numbers, counts.
    """
    from matplotlib.figure import Figure

    table = evaluation.confusion
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    classes = len(table)
    inches = min(20.0, max(5.0, 0.35 * classes + 2))
    figure = Figure(figsize=(inches + 1, inches), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the true class")
    title = f"{evaluation.top(1):.1%} of {len(evaluation.labels)} pictures correct"
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if classes <= _MOST_NAMED:
        names = evaluation.class_names
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), names)
    if classes <= _MOST_COUNTED:
        for row, column in np.argwhere(table):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, table[row, column], color=color, ha="center", va="center"
            )
    figure.savefig(path)


def draw_mistakes(evaluation: Evaluation, path: str | Path) -> None:
    """Draws the most confident mistakes, worst first, as the model takes them."""
    from matplotlib.figure import Figure

    mistakes, names = evaluation.mistakes, evaluation.class_names
    columns, rows = 5, max(1, -(-len(mistakes) // 5))
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for mistake, axes in zip(mistakes, grid.flat, strict=False):
        axes.imshow(mistake.picture, interpolation="nearest")
        predicted = f"predicted {names[mistake.predicted]} ({mistake.probability:.2f})"
        axes.set_title(f"{names[mistake.label]}\n{predicted}", fontsize=9)
    if not mistakes:
        figure.suptitle("no mistakes")
    figure.savefig(path)
