"""Find thresholds for early exits on validation pictures.

Half of the pictures choose the thresholds, the other half checks them. Writes
exits.json (for export --early-exit) and exits.png beside MODEL, or where --out says.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import common, console, data_options

if TYPE_CHECKING:
    import numpy as np

    from keras_inception.early_exit import Calibration, EarlyExit
    from keras_inception.early_exit.timing import Timing

TIMED = 448  # pictures at most
BATCH_SIZES = (1, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `calibrate`."""
    parser.add_argument("model", metavar="MODEL", help="a .keras file with heads")
    parser.add_argument("data", metavar="DATA", help=data_options.DATA_HELP)
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.005,
        metavar="DROP",
        help="largest accuracy drop against main, from 0 to 1 (default: 0.005, half a "
        "percentage point)",
    )
    parser.add_argument(
        "--exits",
        nargs="+",
        metavar="HEAD",
        help="heads to consider (default: all that predict main's classes)",
    )
    parser.add_argument(
        "--confidence",
        choices=("max_probability", "entropy"),
        default="max_probability",
        help="measure that thresholds are compared with (default: max_probability)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, help="pictures per batch (default: 32)"
    )
    data_options.add_seed_argument(parser)
    data_options.add_data_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="JSON file to write; the picture is written beside it (default: "
        "exits.json beside MODEL)",
    )


def run(options: argparse.Namespace) -> None:
    """Calibrates, checks and times early exits, and writes them."""
    common.check_at_least(options, {"batch_size": 1})
    common.check_folders(options, "out")
    out = options.out or Path(options.model).with_name("exits.json")
    with console.quiet_start():
        from keras_inception import data
        from keras_inception.defaults import input_size_of
        from keras_inception.early_exit import EarlyExit
        from keras_inception.early_exit.calibration import stratified_halves
        from keras_inception.early_exit.plots import draw_trade_off
        from keras_inception.early_exit.timing import measure_timings

    model = common.load_model(options.model)
    if not isinstance(model.output, dict):
        raise ValueError(f"{options.model} has no heads to exit at.")
    data_options.settle_seed(options, options.model)
    source = data_options.find_data(options)
    data_options.check_class_names(model, source)
    choosing = checking = source.validation
    halves = stratified_halves(choosing.labels, options.seed)
    if len(halves[1]):  # else no class has two pictures
        choosing, checking = map(source.validation.take, halves)
    choosing_pictures, checking_pictures = (
        data.pipeline(source, split, input_size_of(model), options.batch_size)
        for split in (choosing, checking)
    )
    print(
        f"{len(source.validation)} validation pictures: {len(choosing)} choose the "
        f"thresholds, {len(checking)} check them",
        flush=True,
    )
    early = EarlyExit.calibrate(
        model,
        choosing_pictures,
        options.max_drop,
        exits=options.exits,
        confidence=options.confidence,
    )
    early.save(out)
    assert early.calibration is not None
    checked = _accuracies(early, checking_pictures, options.batch_size)
    source.bad.check()
    timings = measure_timings(early, _timed_pictures(checking_pictures), BATCH_SIZES)
    _print_exits(early.thresholds, early.calibration)
    _print_effect(early.calibration, checked, timings)
    picture = out.with_suffix(".png")
    draw_trade_off(early.calibration, timings[BATCH_SIZES[-1]], picture)
    print(f"wrote {out} and {picture}")


def _accuracies(
    early: "EarlyExit", dataset: Iterable[tuple], batch_size: int
) -> tuple[float, float]:
    """Accuracy of main alone and of early exits."""
    import numpy as np

    from keras_inception.early_exit import EarlyExit

    main, exits, count = 0, 0, 0
    main_alone = EarlyExit(early.model, {})
    for images, labels in dataset:
        labels = np.asarray(labels)
        main += np.sum(main_alone.predict(images, batch_size)[0].argmax(-1) == labels)
        exits += np.sum(early.predict(images, batch_size)[0].argmax(-1) == labels)
        count += len(labels)
    return main / count, exits / count


def _timed_pictures(dataset: Iterable[tuple]) -> "np.ndarray":
    import numpy as np

    pictures: list[np.ndarray] = []
    for images, _ in dataset:
        pictures.append(np.asarray(images))
        if sum(map(len, pictures)) >= TIMED:
            break
    return np.concatenate(pictures)[:TIMED]


def _print_exits(thresholds: dict[str, float], found: "Calibration") -> None:
    rows = [
        (
            name,
            f"{thresholds[name]:.4f}" if name in thresholds else "",
            f"{found.chosen.shares.get(name, 0):.1%}",
            f"{accuracy:.4f}",
        )
        for name, accuracy in found.exit_accuracy.items()
    ]
    print()
    console.print_table(rows, ["exit", "threshold", "pictures", "accuracy by itself"])


def _print_effect(
    found: "Calibration",
    checked: tuple[float, float],
    timings: dict[int, "Timing"],
) -> None:
    main_seconds = [timing.main for timing in timings.values()]
    exits_seconds = [timing.early_exit for timing in timings.values()]
    rows = [
        (
            name,
            f"{point.accuracy:.4f}",
            f"{accuracy:.4f}",
            f"{point.multiply_adds:,.0f}",
            *(f"{1e3 * one:.2f}" for one in seconds),
        )
        for name, point, accuracy, seconds in (
            ("main alone", found.main, checked[0], main_seconds),
            ("early exits", found.chosen, checked[1], exits_seconds),
        )
    ]
    columns = ["", "chosen by", "checked", "multiply-adds"]
    columns += [f"ms, batch {size}" for size in timings]
    print()
    console.print_table(rows, columns)
    speedups = " and ".join(f"{timing.speedup:.2f}" for timing in timings.values())
    print(f"\n{speedups} times as fast in batches of {' and '.join(map(str, timings))}")
    if not found.chosen.thresholds:
        print("no exit saves computation within the allowed drop")
    if found.raises_accuracy:
        print("the exits raise the accuracy: main overthinks more than they miss")
    print(
        f"{found.overthought:.1%} of the pictures are wrong at main and right at an "
        "exit (overthinking)"
    )
