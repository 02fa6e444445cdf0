"""Pictures of runs: predictions for TensorBoard, and curves of several runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_inception.activation_maps import Explainer
from keras_inception.evaluation import draw_maps
from keras_inception.files import write_whole
from keras_inception.graph import layer_of
from keras_inception.outputs import MAIN, Output
from keras_inception.supervision import DeeplySupervised
from keras_inception.training.past_runs import PastRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG = "#007a53", "#c0392b"


def draw_predictions(
    model: DeeplySupervised, images: np.ndarray, labels: np.ndarray | Sequence[int]
) -> np.ndarray:
    """Draws pictures with the most likely class of every output, correct ones in green.

    Args:
        model: A model whose outputs are probabilities by name.
        images: Raw RGB pixels 0..255 `(pictures, height, width, 3)`.
        labels: Class indices; a head with superclasses is compared with the superclass.

    Returns:
        uint8 `(height, width, 3)`.
    """
    from matplotlib.figure import Figure

    outputs = model.predict_on_batch(images)
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    height = 2.1 + 0.2 * len(outputs)
    figure = Figure(figsize=(2.5 * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for index, (axes, image) in enumerate(zip(grid, images, strict=False)):
        axes.imshow(np.clip(image, 0, 255).astype("uint8"))
        label = int(labels[index])
        axes.set_title(_class_name(model, MAIN, label), fontsize=10)
        for line, (name, probabilities) in enumerate(_in_network_order(model, outputs)):
            best = int(np.argmax(probabilities[index]))
            correct = best == _own_label(model, name, label)
            axes.text(
                0.5,
                -0.05 - 0.12 * line,
                f"{name}: {_class_name(model, name, best)} "
                f"{float(probabilities[index][best]):.2f}",
                color=RIGHT if correct else WRONG,
                transform=axes.transAxes,
                horizontalalignment="center",
                verticalalignment="top",
                fontsize=9,
            )
    return _pixels(figure)


def draw_activation_maps(
    model: DeeplySupervised, images: np.ndarray, labels: np.ndarray | Sequence[int]
) -> np.ndarray:
    """Draws pictures below their classes, and beside each where every output looks.

    Args:
        model, images, labels: As in `draw_predictions`.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        NoFeatureMap: If an output reads no feature map.
    """
    found = Explainer(model)(images)
    titles = [_class_name(model, MAIN, int(label)) for label in labels]
    return _pixels(draw_maps(images, found, model.output_class_names, titles))


def draw_runs(runs: Sequence[PastRun], path: str | Path) -> None:
    """Draws the runs' curves into one PNG: a panel per output, a color per run."""
    from matplotlib.figure import Figure

    outputs = list(dict.fromkeys(name for run in runs for name in run.outputs))
    rows = (("accuracy", "accuracy"), ("loss", "unweighted loss"))
    figure = Figure(figsize=(4.4 * max(1, len(outputs)), 7.2), layout="constrained")
    grid = figure.subplots(len(rows), max(1, len(outputs)), squeeze=False, sharex=True)
    for (metric, label), panels in zip(rows, grid, strict=True):
        for output, axes in zip(outputs, panels, strict=False):
            for number, run in enumerate(runs):
                _draw_curves(axes, run, f"{output}_{metric}", f"C{number}")
            axes.set_title(f"{output}: {label}", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.25)
    longest = max((run.epochs for run in runs), default=0)
    for axes in grid[-1]:
        axes.set(xlabel="epoch", xlim=(0.5, max(1, longest) + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
    if outputs:
        figure.legend(
            *grid[0][0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(4, 2 * len(runs)),
            frameon=False,
        )
    write_whole(Path(path), lambda file: figure.savefig(file, format="png", dpi=120))


def _pixels(figure: "Figure") -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_curves(axes, run: PastRun, metric: str, color: str) -> None:
    for prefix, split, style in (("val_", "validation", "-"), ("", "training", ":")):
        values = run.history.get(prefix + metric, [])
        axes.plot(
            range(1, len(values) + 1),
            values,
            style,
            color=color,
            marker="." if len(values) < 30 else None,
            label=f"{run.name}, {split}",
        )


def _in_network_order(
    model: DeeplySupervised, outputs: dict
) -> list[tuple[str, np.ndarray]]:
    """The outputs in network order: JAX sorts them by name."""
    return [(name, np.asarray(outputs[name])) for name in model.output]


def _own_label(model: DeeplySupervised, output: str, label: int) -> int:
    layer = layer_of(model.output[output])
    if not isinstance(layer, Output):
        return label
    return int(np.asarray(layer.own_labels(np.array([label]))).ravel()[0])


def _class_name(model: DeeplySupervised, output: str, index: int) -> str:
    names = model.output_class_names[output]
    return str(names[index]) if names else str(index)
