"""Give a finished classifier early exits: place, train and calibrate heads.

MODEL needs no heads and does not change. Linear probes choose the endpoints, small
heads there learn from the training pictures, half of the validation pictures calibrate
them and the other half checks them. Writes model.keras, exits.json (for export
--early-exit) and exits.png into DIR.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import calibrate, common, console, data_options, splits

if TYPE_CHECKING:
    from keras_inception.early_exit import Calibration

DROPS = (0.0, 0.0025, 0.005, 0.01, 0.02)  # of the operating points that are printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `exits`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a .keras file, with heads or without")
    add("data", metavar="DATA", help=data_options.DATA_HELP)
    add(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the model with its exits",
    )
    add("--overwrite", action="store_true", help="replace the model in DIR")
    add("--max-exits", type=int, default=3, help="most exits (default: 3)")
    add(
        "--max-drop",
        type=float,
        default=0.005,
        metavar="DROP",
        help="largest allowed loss of accuracy, 0 to 1 (default: 0.005, half a point)",
    )
    calibrate.add_confidence_level(parser)
    add(
        "--labels",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="--no-labels: learn and calibrate with main's own answers; accuracy is "
        "agreement with them",
    )
    add("--batch-size", type=int, default=32, help="(default: 32)")
    splits.add_seed_argument(parser)
    data_options.add_data_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Fits, checks and times early exits, and writes them."""
    common.check_at_least(options, {"batch_size": 1, "max_exits": 1})
    out, file = options.output, options.output / "model.keras"
    common.check_output_folder(options)
    if file.exists() and not options.overwrite:
        raise FileExistsError(f"{file} already exists; pass --overwrite to replace it.")
    with console.quiet_start():
        import keras

        from keras_inception import data
        from keras_inception.defaults import input_size_of
        from keras_inception.early_exit import EarlyExit
        from keras_inception.early_exit.placement import Pictures
        from keras_inception.early_exit.plots import draw_trade_off
        from keras_inception.early_exit.timing import measure_timings
        from keras_inception.files import write_whole

    model = common.load_model(options.model)
    options.split = "validation"  # its source has the training pictures too
    source, validation, _ = splits.find_judged(options, {options.model: model})
    keras.utils.set_random_seed(options.seed or 0)
    level = options.confidence_level
    given, chooses, checks = splits.for_thresholds(validation, level, options.seed)
    train, calibrating, checking = (
        data.pipeline(source, split, input_size_of(model), options.batch_size)
        for split in (source.train, given, checks)
    )
    print(
        f"{len(source.train)} training pictures place and train the exits, "
        f"{len(chooses)} validation pictures calibrate them, {len(checks)} "
        f"{'test' if level else 'check'} them",
        flush=True,
    )
    early = EarlyExit.fit(
        model,
        train,
        calibrating,
        max_exits=options.max_exits,
        max_accuracy_drop=options.max_drop,
        confidence_level=level,
        labels=options.labels,
    )
    found = early.calibration
    assert found is not None
    judged = Pictures(early.model, checking, options.labels)
    checked = calibrate.checked_accuracies(early, judged, options.batch_size)
    source.bad.check()
    out.mkdir(parents=True, exist_ok=True)
    write_whole(file, early.model.save)
    early.save(out / "exits.json")
    timings = measure_timings(early, calibrate.some_pictures(checking), (1, 32))
    if not options.labels:
        print("nothing is learned from labels: accuracy is agreement with main")
    calibrate.print_calibration(early.thresholds, found, checked, timings)
    _print_points(found)
    picture = out / "exits.png"
    draw_trade_off(found, timings[32], picture)
    print(f"\nwrote {file}, {out / 'exits.json'} and {picture}")


def _print_points(found: "Calibration") -> None:
    """Prints the cheapest point of the curve for each of several accuracy drops."""
    rows: list[Sequence[object]] = []
    for drop in DROPS:
        least = found.main.accuracy - drop - 1e-9
        points = [point for point in found.curve if point.accuracy >= least]
        point = min(points, key=lambda point: point.multiply_adds, default=found.main)
        cost = point.multiply_adds / found.main.multiply_adds
        shares = ", ".join(f"{name} {of:.0%}" for name, of in point.shares.items())
        rows.append((f"{drop:.2%}", f"{point.accuracy:.4f}", f"{cost:.1%}", shares))
    columns = ("allowed drop", "accuracy", "of main's multiply-adds", "answered by")
    print()
    console.print_table(rows, columns, left=(3,))
