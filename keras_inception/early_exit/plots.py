"""Accuracy against computation and against time, as a PNG file."""

from pathlib import Path

from keras_inception.early_exit.calibration import Calibration
from keras_inception.early_exit.points import OperatingPoint
from keras_inception.early_exit.timing import Timing
from keras_inception.files import write_whole
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

    def millions(point: OperatingPoint) -> float:
        return 1e-6 * point.multiply_adds

    level = calibration.confidence_level
    for axes, points, x_of, x_of_main, x_of_chosen in (
        (left, curve, millions, millions(main), millions(chosen)),
        (right, timed, milliseconds, 1e3 * timing.main, 1e3 * timing.early_exit),
    ):
        points = sorted(points, key=x_of)
        x = [x_of(point) for point in points]
        y = [point.accuracy for point in points]
        axes.plot(x, y, color="tab:blue", label="other thresholds")
        if level:
            drops = [point.largest_drop or 0.0 for point in points]
            least = [main.accuracy - drop for drop in drops]
            name = f"at least, with {level:.0%}"
            axes.plot(x, least, color="tab:blue", linestyle="--", label=name)
            axes.fill_between(x, least, y, color="tab:blue", alpha=0.15, linewidth=0)
        axes.plot(x_of_main, main.accuracy, "s", color="black", label="main alone")
        point = (x_of_chosen, chosen.accuracy)
        axes.plot(*point, "o", color="tab:red", markersize=9, label="chosen")
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
        edge = axes.get_xlim()[1]
        if calibration.max_accuracy_drop is not None:
            allowed = main.accuracy - calibration.max_accuracy_drop
            axes.axhline(allowed, color="0.6", linewidth=1, linestyle=":")
            axes.annotate("allowed", (edge, allowed), ha="right", va="top", color="0.4")
    if calibration.max_cost is not None:
        most = calibration.max_cost * millions(main)
        left.axvline(most, color="0.6", linewidth=1, linestyle=":")
    left.set(xlabel="multiply-adds per picture, million", ylabel="accuracy")
    right.set(xlabel=f"milliseconds per picture, batches of {timing.batch_size}")
    left.legend(loc="lower right", frameon=False)
    exits = ", ".join(name for name in chosen.shares if name != MAIN)
    figure.suptitle(
        f"Early exits at {exits}, calibrated on {calibration.examples:,} pictures"
        if chosen.thresholds
        else "Early exits: none saves computation within what is allowed"
    )
    write_whole(Path(path), lambda file: figure.savefig(file, format="png", dpi=150))
