"""A gradient flow as files: a table for programs, a picture and a page for people."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from keras_inception import html_report
from keras_inception.gradients.comparison import TrainingCurve
from keras_inception.gradients.explanation import (
    by_loss,
    explain,
    share_of_heads,
    times,
)
from keras_inception.gradients.flow import TOTAL, GradientRow
from keras_inception.gradients.plots import draw_comparison, draw_flow

HOW_TO_READ = (
    "Each output of the network has a loss, and each loss sends a gradient back "
    "through every stage before it. The norm is the length of that gradient over all "
    "weights of a stage: how strongly the loss asks the stage to change. 'main' is the "
    "loss of the classifier at the end; each head's line is its own loss alone, before "
    "its weight; 'total' is what training follows, the sum with the weights in force.",
    "The cosine says whether two gradients point the same way: 1 is the same "
    "direction, 0 unrelated, below 0 against each other.",
)


def write_rows(path: Path, rows: Iterable[GradientRow], **columns) -> None:
    """The rows as CSV, each behind the same `columns`."""
    _write_csv(path, [columns | row._asdict() for row in rows])


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
        directory: Made if it is not there.
        rows: What `gradient_flow` returned.
        model: What the page calls the network.
        data: What it calls the pictures.
        details: Sentences on how it was measured.
        comparison: What `compare_without_heads` returned.

    Returns:
        The files, the page last.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / "gradients.csv", directory / "gradients.png"]
    write_rows(files[0], rows)
    drawing = html_report.png(draw_flow(rows, f"{model} on {data}"))
    files[1].write_bytes(drawing)
    parts = [
        html_report.paragraphs(explain(rows)),
        html_report.figure(
            drawing, "Stages from the first to the last; a line for each loss."
        ),
        html_report.heading("How to read this"),
        html_report.paragraphs(HOW_TO_READ),
    ]
    if comparison is not None:
        files += _write_comparison(directory, comparison)
        parts += [
            html_report.heading("The same network without its heads"),
            html_report.paragraphs(read_comparison(comparison)),
            html_report.figure(files[-1].read_bytes(), "Both networks, side by side."),
        ]
    parts += [
        html_report.heading("Figures"),
        html_report.table(*_as_table(rows)),
        html_report.heading("How it was measured"),
        html_report.paragraphs(details),
    ]
    page = directory / "report.html"
    title = f"What the losses of {model} teach its stages"
    page.write_text(html_report.page(title, *parts))
    return [*files, page]


def read_comparison(courses: Mapping[str, TrainingCurve]) -> list[str]:
    """What the comparison shows, in sentences."""
    steps = len(next(iter(courses.values())).main_losses)
    texts = [
        "Two copies began with the same weights and learnt from the same "
        f"{steps} batches, one with the heads' losses added and one without."
    ]
    for moment, when in (("before", "At the initial weights"), ("after", "At the end")):
        totals = {n: by_loss(getattr(c, moment))[TOTAL] for n, c in courses.items()}
        stage = next(iter(totals["with heads"]))
        with_heads = totals["with heads"][stage].norm
        without = totals["without heads"].get(stage)
        if without is None:
            texts.append(
                f"{when} the first stage, {stage}, gets no gradient without heads."
            )
            continue
        ratio = with_heads / without.norm
        texts.append(
            f"{when} the first stage, {stage}, gets {with_heads:.2g} with heads and "
            f"{without.norm:.2g} without: {times(ratio)} as much."
        )
    tail = max(1, steps // 10)
    ends = {n: sum(c.main_losses[-tail:]) / tail for n, c in courses.items()}
    texts.append(
        f"The main loss over the last {tail} batches was {ends['with heads']:.3f} with "
        f"heads and {ends['without heads']:.3f} without. These are training batches of "
        "one run from one seed: what the heads do for accuracy on held-out pictures is "
        "told by training both to the end, with several seeds."
    )
    return texts


def text_table(rows: Sequence[GradientRow]) -> str:
    """The norms and cosines for a terminal."""
    columns, lines = _as_table(rows)
    lines = [columns, *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _as_table(rows: Sequence[GradientRow]) -> tuple[list[str], list[list[str]]]:
    losses = by_loss(rows)
    heads = [loss for loss in losses if loss not in ("main", TOTAL)]
    shares = share_of_heads(rows) if heads else {}
    columns = ["stage", *losses, *(f"cos {head}" for head in heads)]
    if heads:
        columns.append("from heads")
    lines = []
    for stage in dict.fromkeys(row.stage for row in rows):
        line = [stage]
        for of_stage in losses.values():
            row = of_stage.get(stage)
            line.append(f"{row.norm:.3g}" if row else "-")
        for head in heads:
            row = losses[head].get(stage)
            known = row is not None and row.cosine_to_main is not None
            line.append(f"{row.cosine_to_main:+.2f}" if known else "-")
        if heads:
            line.append(f"{100 * shares[stage]:.0f} %" if stage in shares else "-")
        lines.append(line)
    return columns, lines


def _write_comparison(
    directory: Path, courses: Mapping[str, TrainingCurve]
) -> list[Path]:
    files = [
        directory / name for name in ("comparison.csv", "losses.csv", "comparison.png")
    ]
    _write_csv(
        files[0],
        [
            {"network": name, "moment": moment} | row._asdict()
            for name, course in courses.items()
            for moment in ("before", "after")
            for row in getattr(course, moment)
        ],
    )
    steps = range(len(next(iter(courses.values())).main_losses))
    _write_csv(
        files[1],
        [
            {"step": step + 1}
            | {name: course.main_losses[step] for name, course in courses.items()}
            for step in steps
        ],
    )
    files[2].write_bytes(html_report.png(draw_comparison(courses)))
    return files


def _write_csv(path: Path, rows: Sequence[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
