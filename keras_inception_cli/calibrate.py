"""Find thresholds for early exits on validation pictures.

Half of the pictures choose the thresholds, the other half checks them, or with
--confidence-level tests them. Writes exits.json (for export --early-exit) and exits.png
beside MODEL, or where --out says.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import common, console, data_options, splits

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from keras_inception.early_exit import Calibration, EarlyExit
    from keras_inception.early_exit.timing import Timing

TIMED = 448  # pictures at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `calibrate`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a .keras file with heads")
    add("data", metavar="DATA", help=data_options.DATA_HELP)
    allowed = parser.add_mutually_exclusive_group()
    allowed.add_argument(
        "--max-drop",
        type=float,
        metavar="DROP",
        help="largest allowed loss of accuracy, 0 to 1 (default: 0.005, half a point)",
    )
    allowed.add_argument(
        "--max-cost",
        type=float,
        metavar="SHARE",
        help="instead of a drop: largest allowed share of main's multiply-adds, 0 to "
        "1; the most accurate thresholds within it are chosen",
    )
    add_confidence_level(parser)
    heads = "heads to consider (default: all that predict main's classes)"
    add("--exits", nargs="+", metavar="HEAD", help=heads)
    add(
        "--confidence",
        choices=("max_probability", "entropy"),
        default="max_probability",
        help="what thresholds are compared with (default: max_probability)",
    )
    add(
        "--dtype",
        choices=("bfloat16",),
        help="calibrate the model as export writes it with this --dtype (default: as "
        "it is)",
    )
    add("--batch-size", type=int, default=32, help="(default: 32)")
    splits.add_split_arguments(parser)
    data_options.add_data_arguments(parser)
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="JSON file to write, with a picture beside it (default: exits.json beside "
        "MODEL)",
    )


def add_confidence_level(parser: argparse.ArgumentParser) -> None:
    """Declares `--confidence-level`."""
    parser.add_argument(
        "--confidence-level",
        type=float,
        metavar="LEVEL",
        help="probability, such as 0.95, with which the loss on other pictures of this "
        "kind is below DROP; costs some of the speed (default: DROP holds on "
        "average)",
    )


def run(options: argparse.Namespace) -> None:
    """Calibrates, checks and times early exits, and writes them."""
    common.check_at_least(options, {"batch_size": 1})
    common.check_folders(options, "out")
    out = options.out or Path(options.model).with_name("exits.json")
    if out.suffix.lower() == ".png":  # that of the picture beside it
        raise ValueError(f"--out is a JSON file. Received: {out}")
    with console.quiet_start():
        from keras_inception import data
        from keras_inception.defaults import input_size_of
        from keras_inception.early_exit import EarlyExit
        from keras_inception.early_exit.plots import draw_trade_off
        from keras_inception.early_exit.timing import measure_timings
        from keras_inception.export.folding import inference_model
        from keras_inception.layers import LocalResponseNormalization

    model = common.load_model(options.model)
    if not isinstance(getattr(model, "output", None), dict):
        raise ValueError(f"{options.model} has no heads to exit at.")
    source, split, name = splits.find_judged(options, {options.model: model})
    if options.dtype:
        model = inference_model(model, LocalResponseNormalization, options.dtype)
    level = options.confidence_level
    given, chooses, checks = splits.for_thresholds(split, level, options.seed)
    calibrating, checking = (
        data.pipeline(source, part, input_size_of(model), options.batch_size)
        for part in (given, checks)
    )
    print(
        f"{len(split)} {name}pictures: {len(chooses)} choose the thresholds, "
        f"{len(checks)} {'test' if level else 'check'} them",
        flush=True,
    )
    if not name and options.split is None:
        print(
            "no run is known in which this file learned from DATA, so these are all "
            "pictures; on those that it learned from exits look too good: "
            "--split validation leaves them out"
        )
    early = EarlyExit.calibrate(
        model,
        calibrating,
        options.max_drop,
        max_cost=options.max_cost,
        confidence_level=level,
        exits=options.exits,
        confidence=options.confidence,
    )
    found = early.calibration
    assert found is not None
    checked = checked_accuracies(early, checking, options.batch_size)
    source.bad.check()
    early.save(out)
    timings = measure_timings(early, some_pictures(checking), (1, 32))
    print_calibration(early.thresholds, found, checked, timings)
    picture = out.with_suffix(".png")
    draw_trade_off(found, timings[32], picture)
    print(f"wrote {out} and {picture}")


def checked_accuracies(
    early: "EarlyExit", checking: "Iterable", batch_size: int
) -> list[float]:
    """Accuracy of main and with exits on pictures that did not choose.

    With a confidence level the second is the lowest that the test leaves possible.
    """
    found = early.calibration
    assert found is not None
    if found.confidence_level:
        return [
            found.main.accuracy,
            found.main.accuracy - (found.chosen.largest_drop or 0),
        ]
    both = type(early)(early.model, {}), early
    return [accuracy_of(one, checking, batch_size) for one in both]


def accuracy_of(early: "EarlyExit", dataset: Iterable[tuple], batch_size: int) -> float:
    """Share of a dataset's pictures that early exits answer correctly."""
    import numpy as np

    hits = [
        early.predict(images, batch_size)[0].argmax(-1) == np.asarray(labels)
        for images, labels in dataset
    ]
    return sum(map(sum, hits)) / sum(map(len, hits))


def some_pictures(dataset: "tf.data.Dataset") -> "np.ndarray":
    """Pictures to measure times with."""
    import numpy as np

    images = dataset.unbatch().take(TIMED).map(lambda images, labels: images)
    return np.stack(list(images.as_numpy_iterator()))


def print_calibration(
    thresholds: "dict[str, float]",
    found: "Calibration",
    checked: Sequence[float],
    timings: "dict[int, Timing]",
) -> None:
    """Prints exits, accuracy, computation and time as tables."""
    rows: list[tuple[str, ...]] = []
    for name, accuracy in found.exit_accuracy.items():
        shown = f"{thresholds[name]:.4f}" if name in thresholds else ""
        share = found.chosen.shares.get(name, 0)
        rows.append((name, shown, f"{share:.1%}", f"{accuracy:.4f}"))
    print()
    console.print_table(rows, ["exit", "threshold", "pictures", "accuracy alone"])
    rows = []
    for name, point, accuracy, field in (
        ("main alone", found.main, checked[0], "main"),
        ("early exits", found.chosen, checked[1], "early_exit"),
    ):
        times = [f"{1e3 * getattr(timing, field):.2f}" for timing in timings.values()]
        figures = f"{point.accuracy:.4f}", f"{accuracy:.4f}"
        rows.append((name, *figures, f"{point.multiply_adds:,.0f}", *times))
    level = found.confidence_level
    checks = f"at least, {level:.0%}" if level else "checked"
    columns = ["", "accuracy", checks, "multiply-adds"]
    print()
    console.print_table(rows, columns + [f"ms, batch {size}" for size in timings])
    rows = [
        (f"{size}, {name}", *(f"{1e3 * seconds:.2f}" for seconds in latency))
        for size, timing in timings.items()
        for name, latency in (
            ("main alone", timing.main_latency),
            ("early exits", timing.early_exit_latency),
        )
    ]
    print()
    console.print_table(rows, ["ms of a batch of", "p50", "p95", "p99"])
    speedups = " and ".join(f"{timing.speedup:.2f}" for timing in timings.values())
    print(f"\n{speedups} times as fast in batches of {' and '.join(map(str, timings))}")
    if not found.chosen.thresholds:
        print("no exit saves computation within what is allowed")
    if found.raises_accuracy:
        print("the exits raise the accuracy: main overthinks more than they miss")
    print(
        f"overthinking: on {found.overthought:.1%} of the pictures main is wrong and "
        "an exit is right"
    )
