"""An attribution as a CSV file and a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_inception import html_report
from keras_inception.attribution.ledger import PENALTY
from keras_inception.attribution.rows import AttributionRow
from keras_inception.files import write_bytes, write_csv
from keras_inception.gradients.report import HEAD_COLORS, MAIN_COLOR
from keras_inception.outputs import MAIN

PENALTY_COLOR = "#7a7f87"


def write_attribution(
    directory: Path, rows: Sequence[AttributionRow], title: str
) -> list[Path]:
    """Writes `attribution.csv` and `attribution.png`; returns their paths."""
    table, picture = directory / "attribution.csv", directory / "attribution.png"
    write_csv(table, AttributionRow._fields, rows)
    write_bytes(picture, html_report.png(draw_attribution(rows, title)))
    return [table, picture]


def read_attribution(file: Path) -> list[AttributionRow]:
    """Reads an `attribution.csv`; a `ValueError` if it is damaged."""
    with file.open(newline="", encoding="utf-8") as opened:
        columns, *lines = csv.reader(opened)
    try:
        return [
            AttributionRow(
                stage,
                loss,
                float(share),
                float(path),
                float(cosine) if cosine else None,
            )
            for stage, loss, share, path, cosine in lines
        ]
    except ValueError:
        raise ValueError(
            f"{file} is damaged: its columns must be "
            f"{','.join(AttributionRow._fields)}, numbers from the third on. Its first "
            f"line: {','.join(columns)}"
        ) from None


def draw_attribution(rows: Sequence[AttributionRow], title: str) -> Any:
    """A matplotlib figure: stages from first to last, shares stacked by loss."""
    from matplotlib.figure import Figure

    stages = list(dict.fromkeys(row.stage for row in rows))
    losses = list(dict.fromkeys(row.loss for row in rows))
    heads = [loss for loss in losses if loss not in (MAIN, PENALTY)]
    colors = {MAIN: MAIN_COLOR, PENALTY: PENALTY_COLOR}
    colors |= {head: HEAD_COLORS[i % len(HEAD_COLORS)] for i, head in enumerate(heads)}
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    above, below = [0.0] * len(stages), [0.0] * len(stages)
    for loss in losses:
        shares = [row.share for row in rows if row.loss == loss]
        bottoms = [
            (above if share >= 0 else below)[index]
            for index, share in enumerate(shares)
        ]
        axes.bar(stages, shares, bottom=bottoms, color=colors[loss], label=loss)
        for index, share in enumerate(shares):
            (above if share >= 0 else below)[index] += share
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("share of the displacement")
    axes.set_title(title)
    axes.tick_params(axis="x", rotation=60)
    axes.legend()
    return figure
