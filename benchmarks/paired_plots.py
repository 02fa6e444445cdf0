"""Figures of the paired studies: a panel for each dataset and regime."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

NO_HEADS = "no heads"
COLORS = (
    *("#0b4f8a", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7f87"),
    *("#000000", "#8c564b"),
)


def draw_curves(trainings: Sequence[dict[str, str]]):
    """A matplotlib figure: main's accuracy by epoch, with bands of a deviation."""
    figure, panels = _panels(trainings, 3.4)
    color_by_arm = dict(zip(_distinct(trainings, "arm"), COLORS, strict=False))
    for axes, of_panel in panels:
        for arm in _distinct(of_panel, "arm"):
            color = color_by_arm[arm]
            curves = np.array(
                [json.loads(r["main_curve"]) for r in of_panel if r["arm"] == arm]
            )
            epochs, mean = np.arange(1, curves.shape[1] + 1), 100 * curves.mean(0)
            axes.plot(epochs, mean, color=color, label=f"{arm} ({len(curves)})")
            if len(curves) > 1:
                spread = 100 * curves.std(0, ddof=1)
                axes.fill_between(
                    epochs, mean - spread, mean + spread, color=color, alpha=0.12, lw=0
                )
        axes.set(xlabel="epoch", xticks=epochs, ylabel="main's held-out accuracy, %")
        axes.legend(fontsize=7, frameon=False, title="arm (seeds)", title_fontsize=7)
    return figure


def draw_differences(differences: Sequence[dict]):
    """A matplotlib figure: each arm's difference from no heads, with its interval."""
    rows = [row for row in differences if row["against"] == NO_HEADS]
    figure, panels = _panels(rows, 2.6)
    for axes, of_panel in panels:
        for height, row in enumerate(of_panel):
            low, high = (float(row[name] or "nan") for name in ("low", "high"))
            axes.plot([low, high], [height, height], color=COLORS[0], lw=2)
            axes.plot(float(row["mean"]), height, "o", color=COLORS[0])
        names = [f"{row['arm']} ({row['pairs']})" for row in of_panel]
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.axvline(0, color="black", lw=0.8)
        axes.set_xlabel("points more than without heads")
    return figure


def _panels(rows: Sequence[dict], height: float) -> tuple[Any, Iterator[tuple]]:
    """A figure; and each panel with its rows: datasets below each other."""
    from matplotlib.figure import Figure

    datasets, regimes = _distinct(rows, "dataset"), _distinct(rows, "regime")
    size = 4.2 * max(len(regimes), 1), height * max(len(datasets), 1)
    figure = Figure(figsize=size, layout="constrained")
    if not rows:
        return figure, iter(())
    panels = figure.subplots(len(datasets), len(regimes), squeeze=False)

    def filled() -> Iterator[tuple]:
        cells = itertools.product(datasets, regimes)
        for axes, cell in zip(panels.flat, cells, strict=True):
            axes.set_title(", ".join(cell))
            of_panel = [r for r in rows if (r["dataset"], r["regime"]) == cell]
            if of_panel:
                yield axes, of_panel

    return figure, filled()


def _distinct(rows: Sequence[dict], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))
