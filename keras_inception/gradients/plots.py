"""Gradient flow as figures: stages from left to right, a line for each loss."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_inception.gradients.comparison import TrainingCurve
from keras_inception.gradients.explanation import rows_by_loss, trunk_stages
from keras_inception.gradients.flow import TOTAL, GradientRow
from keras_inception.outputs import MAIN

HEAD_COLORS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MAIN_COLOR, TOTAL_COLOR = "#0b4f8a", "#7a7f87"


def draw_flow(rows: Sequence[GradientRow], title: str) -> Any:
    """A matplotlib figure of the gradient norms by stage, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.8), layout="constrained")
    _draw_losses(figure.subplots(), rows, title)
    return figure


def draw_comparison(curves: Mapping[str, TrainingCurve]) -> Any:
    """A figure of both networks' gradients before and after, and their main losses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.5), layout="constrained")
    (initial, final), (by_loss, main_loss) = figure.subplots(2, 2)
    final.sharey(initial)
    colors = dict(zip(curves, (HEAD_COLORS[0], MAIN_COLOR), strict=True))
    steps = len(curves["with heads"].main_losses)
    for axes, moment, when in (
        (initial, "before", "at the initial weights"),
        (final, "after", f"after {steps} steps"),
    ):
        for name, curve in curves.items():
            rows = getattr(curve, moment)
            total, stages = rows_by_loss(rows)[TOTAL], trunk_stages(rows)
            _draw_line(axes, total, stages, label=name, color=colors[name])
        _finish(axes, stages, f"The trunk's gradient {when}, all losses")
    title = f"With heads, after {steps} steps"
    _draw_losses(by_loss, curves["with heads"].after, title)
    for name, curve in curves.items():
        x = range(1, steps + 1)
        main_loss.plot(x, curve.main_losses, color=colors[name], label=name, lw=1.2)
    main_loss.set(title="Main loss on each training batch", xlabel="step")
    main_loss.legend(frameon=False)
    main_loss.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_losses(axes, rows: Sequence[GradientRow], title: str) -> None:
    stages = list(dict.fromkeys(row.stage for row in rows))
    head_colors = itertools.cycle(HEAD_COLORS)
    for loss, row_by_stage in rows_by_loss(rows).items():
        style = {"color": MAIN_COLOR, "zorder": 3}
        if loss == TOTAL:
            style = {"color": TOTAL_COLOR, "linestyle": "--", "zorder": 1}
        elif loss != MAIN:
            style = {"color": next(head_colors), "zorder": 2}
        _draw_line(axes, row_by_stage, stages, label=loss, **style)
    _finish(axes, stages, title)


def _draw_line(axes, row_by_stage, stages: Sequence[str], **style) -> None:
    """Draws one loss; the line breaks where the loss does not reach a stage."""
    norms = [row_by_stage[s].norm if s in row_by_stage else math.nan for s in stages]
    axes.plot(range(len(stages)), norms, marker="o", markersize=4, **style)


def _finish(axes, stages: Sequence[str], title: str) -> None:
    axes.set(title=title, ylabel="L2 norm of the gradient", yscale="log")
    slanted = {"rotation": 55, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(stages)), stages, fontsize=8, **slanted)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
