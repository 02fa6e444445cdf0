"""Pictures of a gradient flow: stages from left to right, a line for each loss."""

import itertools
import math
from collections.abc import Mapping, Sequence

from keras_inception.gradients.comparison import TrainingCurve
from keras_inception.gradients.explanation import by_loss, trunk_stages
from keras_inception.gradients.flow import TOTAL, GradientRow
from keras_inception.outputs import MAIN

HEAD_COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MAIN_COLOUR, TOTAL_COLOUR = "#0b4f8a", "#7a7f87"


def draw_flow(rows: Sequence[GradientRow], title: str):
    """The gradient's norm by stage on a logarithmic scale, as a matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.8), layout="constrained")
    _draw_lines(figure.subplots(), rows, title)
    return figure


def draw_comparison(courses: Mapping[str, TrainingCurve]):
    """Both networks' gradients before and after, and how their main loss fell."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.5), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    second.sharey(first)
    colours = dict(zip(courses, (HEAD_COLOURS[0], MAIN_COLOUR), strict=True))
    steps = len(next(iter(courses.values())).main_losses)
    for axes, moment in ((first, "before"), (second, "after")):
        for name, course in courses.items():
            rows = getattr(course, moment)
            total, trunk = by_loss(rows)[TOTAL], trunk_stages(rows)
            _line(axes, total, trunk, label=name, color=colours[name])
        when = (
            "at the initial weights" if moment == "before" else f"after {steps} steps"
        )
        _finish(axes, trunk, f"The trunk's gradient {when}, all losses")
    _draw_lines(third, courses["with heads"].after, f"With heads, after {steps} steps")
    for name, course in courses.items():
        x = range(1, steps + 1)
        fourth.plot(x, course.main_losses, color=colours[name], label=name, lw=1.2)
    fourth.set(title="Main loss on each training batch", xlabel="step")
    fourth.legend(frameon=False)
    fourth.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_lines(axes, rows: Sequence[GradientRow], title: str) -> None:
    stages = list(dict.fromkeys(row.stage for row in rows))
    heads = itertools.cycle(HEAD_COLOURS)
    for loss, of_stage in by_loss(rows).items():
        style = {"color": MAIN_COLOUR, "zorder": 3}
        if loss == TOTAL:
            style = {"color": TOTAL_COLOUR, "linestyle": "--", "zorder": 1}
        elif loss != MAIN:
            style = {"color": next(heads), "zorder": 2}
        _line(axes, of_stage, stages, label=loss, **style)
    _finish(axes, stages, title)


def _line(axes, of_stage: Mapping[str, GradientRow], stages: list[str], **style):
    """One loss; the line is broken where the loss does not reach a stage."""
    norms = [of_stage[s].norm if s in of_stage else math.nan for s in stages]
    axes.plot(range(len(stages)), norms, marker="o", markersize=4, **style)


def _finish(axes, stages: list[str], title: str) -> None:
    axes.set(title=title, ylabel="L2 norm of the gradient", yscale="log")
    axes.set_xticks(
        range(len(stages)),
        stages,
        rotation=55,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
