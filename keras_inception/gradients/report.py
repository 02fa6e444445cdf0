"""Gradient flow as files: CSV tables, pictures, and a page that explains them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_inception import html_report
from keras_inception.files import write_csv
from keras_inception.gradients.comparison import TrainingCurve
from keras_inception.gradients.explanation import (
    explain,
    explain_comparison,
    rows_by_loss,
    share_of_heads,
)
from keras_inception.gradients.flow import TOTAL, GradientRow
from keras_inception.gradients.plots import draw_comparison, draw_flow
from keras_inception.outputs import MAIN

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
    comparison: Mapping[str, TrainingCurve] | None = None,
) -> list[Path]:
    """Writes `gradients.csv`, `gradients.png` and `report.html`.

    With a comparison also `comparison.csv`, `losses.csv` and `comparison.png`.

    Args:
        directory: Created if it does not exist.
        rows: The result of `gradient_flow`.
        model: The network's name on the page.
        data: The dataset's name on the page.
        details: Sentences on how it was measured.
        comparison: The result of `compare_without_heads`.

    Returns:
        The files, the page last.

    Raises:
        OSError: If a file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    table, picture, page = (
        directory / name for name in ("gradients.csv", "gradients.png", "report.html")
    )
    write_csv(table, GradientRow._fields, rows)
    picture.write_bytes(html_report.png(draw_flow(rows, f"{model} on {data}")))
    files = [table, picture]
    parts = [
        html_report.paragraphs(explain(rows)),
        html_report.figure(
            picture.read_bytes(), "Stages from first to last, a line for each loss."
        ),
        html_report.heading("How to read this"),
        html_report.paragraphs(HOW_TO_READ),
    ]
    if comparison is not None:
        files += _write_comparison(directory, comparison)
        parts += [
            html_report.heading("The same network without its heads"),
            html_report.paragraphs(explain_comparison(comparison)),
            html_report.figure(files[-1].read_bytes(), "Both networks, side by side."),
        ]
    parts += [
        html_report.heading("Figures"),
        html_report.table(*flow_table(rows)),
        html_report.heading("How it was measured"),
        html_report.paragraphs(details),
    ]
    title = f"The gradient that each loss of {model} sends to its stages"
    page.write_text(html_report.page(title, *parts))
    return [*files, page]


def flow_table(rows: Sequence[GradientRow]) -> tuple[list[str], list[list[str]]]:
    """Norms and cosines for people: the columns' names, and a line for each stage."""
    losses = rows_by_loss(rows)
    heads = [loss for loss in losses if loss not in (MAIN, TOTAL)]
    shares = share_of_heads(rows) if heads else {}
    columns = ["stage", *losses, *(f"cos {head}" for head in heads)]
    if heads:
        columns.append("from heads")
    lines = []
    for stage in dict.fromkeys(row.stage for row in rows):
        line = [stage]
        for row_by_stage in losses.values():
            row = row_by_stage.get(stage)
            line.append(f"{row.norm:.3g}" if row else "-")
        for head in heads:
            row = losses[head].get(stage)
            cosine = row.cosine_to_main if row else None
            line.append("-" if cosine is None else f"{cosine:+.2f}")
        if heads:
            line.append(f"{100 * shares[stage]:.0f} %" if stage in shares else "-")
        lines.append(line)
    return columns, lines


def _write_comparison(
    directory: Path, curves: Mapping[str, TrainingCurve]
) -> list[Path]:
    table, losses, picture = (
        directory / name for name in ("comparison.csv", "losses.csv", "comparison.png")
    )
    write_csv(
        table,
        ["network", "moment", *GradientRow._fields],
        [
            [network, moment, *row]
            for network, curve in curves.items()
            for moment, rows in (("before", curve.before), ("after", curve.after))
            for row in rows
        ],
    )
    by_step = zip(*(curve.main_losses for curve in curves.values()), strict=True)
    write_csv(
        losses,
        ["step", *curves],
        [[step, *values] for step, values in enumerate(by_step, start=1)],
    )
    picture.write_bytes(html_report.png(draw_comparison(curves)))
    return [table, losses, picture]
