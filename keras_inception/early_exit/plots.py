"""Accuracy against computation and against time, as a PNG file."""

from pathlib import Path

from keras_inception.early_exit.calibration import Calibration, OperatingPoint
from keras_inception.early_exit.timing import Timing
from keras_inception.outputs import MAIN


def draw_trade_off(calibration: Calibration, timing: Timing, path: str | Path) -> None:
    """Draws the trade-off curve of all thresholds and the chosen point, to a PNG file.

    Times of main and of the chosen point are measured; those of the curve combine each
    output's own time with its share of the pictures.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    curve, main, chosen = calibration.curve, calibration.main, calibration.chosen
    timed = [point for point in curve if point.shares.keys() <= timing.by_output.keys()]

    def milliseconds(point: OperatingPoint) -> float:
        shares = point.shares.items()
        return 1e3 * sum(timing.by_output[name] * share for name, share in shares)

    by_adds = [(1e-6 * point.multiply_adds, point.accuracy) for point in curve]
    by_time = sorted((milliseconds(point), point.accuracy) for point in timed)
    least = main.accuracy - calibration.max_accuracy_drop
    for axes, line, x_of_main, x_of_chosen in (
        (left, by_adds, 1e-6 * main.multiply_adds, 1e-6 * chosen.multiply_adds),
        (right, by_time, 1e3 * timing.main, 1e3 * timing.early_exit),
    ):
        axes.plot(*zip(*line, strict=True), color="tab:blue", label="other thresholds")
        axes.plot(x_of_main, main.accuracy, "s", color="black", label="main alone")
        point = (x_of_chosen, chosen.accuracy)
        axes.plot(*point, "o", color="tab:red", markersize=9, label="chosen")
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.axhline(least, color="0.6", linewidth=1, linestyle=":")
        edge = axes.get_xlim()[1]
        axes.annotate("allowed", (edge, least), ha="right", va="top", color="0.4")
    left.set(xlabel="multiply-adds per picture, million", ylabel="accuracy")
    right.set(xlabel=f"milliseconds per picture, batches of {timing.batch_size}")
    left.legend(loc="lower right", frameon=False)
    exits = ", ".join(name for name in chosen.shares if name != MAIN)
    figure.suptitle(
        f"Early exits at {exits}, calibrated on {calibration.examples:,} pictures"
        if chosen.thresholds
        else "Early exits: none saves computation within the allowed drop"
    )
    figure.savefig(path, dpi=150)
