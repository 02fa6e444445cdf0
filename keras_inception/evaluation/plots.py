"""Drawings of an evaluation, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_inception.activation_maps import OutputMaps
from keras_inception.evaluation.evaluate import Evaluation
from keras_inception.files import write_bytes
from keras_inception.html_report import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    _write(figure, path)


def draw_mistakes(evaluation: Evaluation, path: str | Path) -> None:
    """Draws the most confident mistakes, worst first, as the model takes them."""
    names = evaluation.class_names
    titles = [
        f"{names[x.label]}\npredicted {names[x.predicted]} ({x.probability:.2f})"
        for x in evaluation.mistakes
    ]
    draw_pictures([x.picture for x in evaluation.mistakes], titles, path, "no mistakes")


def draw_pictures(
    pictures: Sequence[np.ndarray], titles: Sequence[str], path: str | Path, none: str
) -> None:
    """Draws pictures, uint8 `(height, width, 3)`, five in a row, each below its title.

    Without pictures the drawing says `none`.
    """
    from matplotlib.figure import Figure

    columns, rows = 5, max(1, -(-len(pictures) // 5))
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for picture, title, axes in zip(pictures, titles, grid.flat, strict=False):
        axes.imshow(picture, interpolation="nearest")
        # "$5 and $10" is not a formula.
        axes.set_title(title, fontsize=9, parse_math=False)
    if not pictures:
        figure.suptitle(none)
    _write(figure, path)


def draw_maps(
    pictures: Sequence[np.ndarray] | np.ndarray,
    found: Mapping[str, OutputMaps],
    class_names: Mapping[str, Sequence[str] | None],
    titles: Sequence[str],
) -> "Figure":
    """Draws a row for each picture: itself, and every output's map over it.

    Above each map stand the class that it explains and its probability.

    Args:
        pictures: Raw RGB pixels 0..255 `(height, width, 3)`.
        found: The outputs' maps of these pictures, as `Explainer` returns them.
        class_names: The names of each output's columns; missing ones are numbers.
        titles: Above each picture.
    """
    from matplotlib.figure import Figure

    rows, columns = max(1, len(pictures)), 1 + len(found)
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        pixels = np.clip(picture, 0, 255).astype("uint8")
        shown = [(pixels, title)]
        for name, (maps, classes, probabilities) in found.items():
            named, best = class_names.get(name), int(classes[index])
            label = f"{named[best] if named else best} ({probabilities[index]:.2f})"
            shown.append((overlay(pixels, maps[index]), f"{name}\n{label}"))
        for axes, (image, text) in zip(grid[index], shown, strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set_title(text, fontsize=9, parse_math=False)
    return figure


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lays a map over a picture turned gray: purple where it is low, yellow at 1.

    Args:
        picture: uint8 `(height, width, 3)`.
        heat: `(height, width)`, from 0 to 1.

    Returns:
        uint8 `(height, width, 3)`.
    """
    from matplotlib import colormaps

    gray = picture.mean(axis=-1, keepdims=True)
    colors = 255 * colormaps["plasma"](heat)[..., :3]
    opacity = 0.25 + 0.45 * heat[..., None]
    return ((1 - opacity) * gray + opacity * colors).round().astype("uint8")


def _write(figure: "Figure", path: str | Path) -> None:
    write_bytes(Path(path), png(figure))
