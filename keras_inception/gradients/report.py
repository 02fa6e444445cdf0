"""Gradient flow as files: CSV tables, figures, and a page that explains them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_inception import html_report as html
from keras_inception.files import write_bytes, write_csv, write_text
from keras_inception.gradients.comparison import TrainingCurve
from keras_inception.gradients.explanation import (
    explain,
    explain_comparison,
    rows_by_loss,
    share_of_heads,
    trunk_stages,
)
from keras_inception.gradients.flow import TOTAL, GradientRow
from keras_inception.outputs import MAIN

HEAD_COLORS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MAIN_COLOR, TOTAL_COLOR = "#0b4f8a", "#7a7f87"

HOW_TO_READ = (
    "Each output of the network has a loss, and each loss sends a gradient back "
    "through every stage before it. The norm is the length of that gradient over all "
    "weights of a stage: how strongly the loss asks the stage to change. 'main' is the "
    "loss of the classifier at the end. A head's line is its own loss alone, without "
    "its weight. 'total' is the gradient that training follows: the sum of all losses, "
    "each with its current weight.",
    "The cosine says whether two gradients point the same way: 1 is the same "
    "direction, 0 unrelated, below 0 against each other.",
)


def write_report(
    directory: Path,
    rows: Sequence[GradientRow],
    *,
    model: str,
    data: str,
    details: Sequence[str] = (),
    history: Sequence[str] = (),
    comparison: Mapping[str, TrainingCurve] | None = None,
) -> list[Path]:
    """Writes `gradients.csv`, `gradients.png` and `report.html`; returns their paths.

    With a comparison also `comparison.csv`, `losses.csv` and `comparison.png`.

    Args:
        directory: Created if it does not exist.
        rows: The result of `gradient_flow`.
        model, data: Their names on the page.
        details: Sentences on how it was measured.
        history: Sentences on the training so far, as by `explain_attribution`.
        comparison: The result of `compare_without_heads`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / "gradients.csv", directory / "gradients.png"]
    write_csv(files[0], GradientRow._fields, rows)
    picture = html.png(draw_flow(rows, f"{model} on {data}"))
    write_bytes(files[1], picture)
    parts = [
        html.paragraphs([*explain(rows), *history]),
        html.figure(picture, "Stages from first to last, a line for each loss."),
        html.heading("How to read this"),
        html.paragraphs(HOW_TO_READ),
    ]
    if comparison is not None:
        files += _write_comparison(directory, comparison)
        parts += [
            html.heading("The same network without its heads"),
            html.paragraphs(explain_comparison(comparison)),
            html.figure(files[-1].read_bytes(), "Both networks, side by side."),
        ]
    parts += [
        html.heading("Figures"),
        html.table(*flow_table(rows)),
        html.heading("How it was measured"),
        html.paragraphs(details),
    ]
    title = f"The gradient that each loss of {model} sends to its stages"
    page = directory / "report.html"
    write_text(page, html.page(title, *parts))
    return [*files, page]


def flow_table(rows: Sequence[GradientRow]) -> tuple[list[str], list[list[str]]]:
    """Norms and cosines for people: the columns' names, and a line for each stage."""
    losses = rows_by_loss(rows)
    heads = [loss for loss in losses if loss not in (MAIN, TOTAL)]
    shares = share_of_heads(rows) if heads else {}
    columns = ["stage", *losses, *(f"cos {head}" for head in heads)]
    columns += ["from heads"] if heads else []
    lines = []
    for stage in dict.fromkeys(row.stage for row in rows):
        found = {loss: row_by_stage.get(stage) for loss, row_by_stage in losses.items()}
        cosines = [row and row.cosine_to_main for row in map(found.get, heads)]
        line = [stage, *(f"{row.norm:.3g}" if row else "-" for row in found.values())]
        line += ["-" if cosine is None else f"{cosine:+.2f}" for cosine in cosines]
        if heads:
            line.append(f"{100 * shares[stage]:.0f} %" if stage in shares else "-")
        lines.append(line)
    return columns, lines


def _write_comparison(
    directory: Path, curves: Mapping[str, TrainingCurve]
) -> list[Path]:
    files = [directory / f for f in ("comparison.csv", "losses.csv", "comparison.png")]
    table, losses, picture = files
    rows = [
        [network, moment, *row]
        for network, curve in curves.items()
        for moment in ("before", "after")
        for row in getattr(curve, moment)
    ]
    write_csv(table, ["network", "moment", *GradientRow._fields], rows)
    steps = zip(*(curve.main_losses for curve in curves.values()), strict=True)
    numbered = [[step, *values] for step, values in enumerate(steps, start=1)]
    write_csv(losses, ["step", *curves], numbered)
    write_bytes(picture, html.png(draw_comparison(curves)))
    return files


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
    after = curves["with heads"].after
    _draw_losses(by_loss, after, f"With heads, after {steps} steps")
    for name, curve in curves.items():
        style = {"color": colors[name], "label": name, "lw": 1.2}
        main_loss.plot(range(1, steps + 1), curve.main_losses, **style)
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
