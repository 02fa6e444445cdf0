"""Accuracy against computation and against time, as a picture."""

from pathlib import Path

from keras_inception.early_exit.calibration import Calibration
from keras_inception.early_exit.timing import Timing
from keras_inception.outputs import MAIN


def draw(calibration: Calibration, timing: Timing, path: str | Path) -> None:
    """Draws what thresholds can do, and what was chosen, to a PNG file.

    Left against multiply-adds, right against milliseconds. A point of the curve takes
    the time of each exit, measured by itself, as often as pictures leave there; for
    main and the choice the time was measured.

    Args:
        calibration: From `EarlyExit.calibrate`.
        timing: From `timing.measure`, of the same exits.
        path: The file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    million, milli = 1e-6, 1e3
    found = calibration
    reached = [p for p in found.curve if set(p.shares) <= set(timing.by_exit)]

    def expected(point):
        return sum(timing.by_exit[name] * share for name, share in point.shares.items())

    _panel(
        left,
        curve=[(p.multiply_adds * million, p.accuracy) for p in found.curve],
        main=(found.main.multiply_adds * million, found.main.accuracy),
        chosen=(found.chosen.multiply_adds * million, found.chosen.accuracy),
    )
    _panel(
        right,
        curve=sorted((expected(p) * milli, p.accuracy) for p in reached),
        main=(timing.main * milli, found.main.accuracy),
        chosen=(timing.early_exit * milli, found.chosen.accuracy),
    )
    for axes in (left, right):
        least = found.main.accuracy - found.max_accuracy_drop
        axes.axhline(least, color="0.6", linewidth=1, linestyle=":")
        axes.annotate(
            "allowed", (axes.get_xlim()[1], least), ha="right", va="top", color="0.4"
        )
    left.set(xlabel="multiply-adds per picture, million", ylabel="accuracy")
    right.set(
        xlabel=f"milliseconds per picture, batches of {timing.batch_size}",
    )
    left.legend(loc="lower right", frameon=False)
    figure.suptitle(
        f"Early exits at {', '.join(n for n in found.chosen.shares if n != MAIN)}, "
        f"calibrated on {found.examples:,} pictures"
        if found.chosen.thresholds
        else "Early exits: none pays within the allowed drop"
    )
    figure.savefig(path, dpi=150)


def _panel(axes, *, curve, main, chosen) -> None:
    axes.plot(*zip(*curve, strict=True), color="tab:blue", label="other thresholds")
    axes.plot(*main, "s", color="black", label="main alone")
    axes.plot(*chosen, "o", color="tab:red", markersize=9, label="chosen")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
