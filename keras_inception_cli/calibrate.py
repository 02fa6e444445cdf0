"""Find thresholds for early exits on held-out pictures.

Half of the held-out pictures choose the thresholds, the other half checks them. Writes
exits.json (for export --early-exit) and exits.png beside MODEL, or where --out says.
"""

import argparse
from pathlib import Path

from keras_inception_cli import common, console, data_options

TIMED = 448  # pictures at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `calibrate` takes."""
    parser.add_argument("model", metavar="MODEL", help="a .keras file with heads")
    parser.add_argument("data", metavar="DATA", help=data_options.DATA_HELP)
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.005,
        metavar="SHARE",
        help="what main's accuracy may lose (default: 0.005, half a point)",
    )
    parser.add_argument(
        "--exits",
        nargs="+",
        metavar="HEAD",
        help="heads to consider (default: all that answer in main's classes)",
    )
    parser.add_argument(
        "--confidence",
        choices=("max_probability", "entropy"),
        default="max_probability",
        help="(default: max_probability)",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    data_options.add_seed_argument(parser)
    data_options.add_data_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the JSON file; the picture goes beside it (default: exits.json beside "
        "MODEL)",
    )


def run(options: argparse.Namespace) -> None:
    """Calibrates, checks, times, and writes what it found."""
    common.check_at_least(options, {"batch_size": 1})
    out = options.out or Path(options.model).with_name("exits.json")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent} for {out.name}.")
    with console.quiet_start():
        from keras_inception import data
        from keras_inception.defaults import input_size_of
        from keras_inception.early_exit import EarlyExit, plots, timing

    model = common.load_model(options.model)
    if not isinstance(model.output, dict):
        raise ValueError(f"{options.model} has no heads to exit at.")
    data_options.settle_seed(options, options.model)
    source = data_options.find_data(options)
    data_options.check_class_names(model, source)
    side = input_size_of(model)
    chooses, checks = _halves(source.validation, options.seed)
    calibrating, checking = (
        data.pipeline(source, split, side, options.batch_size)
        for split in (chooses, checks)
    )
    print(
        f"{len(source.validation)} held-out pictures: {len(chooses)} to choose with, "
        f"{len(checks)} to check with",
        flush=True,
    )
    early = EarlyExit.calibrate(
        model,
        calibrating,
        options.max_drop,
        exits=options.exits,
        confidence=options.confidence,
    )
    early.save(out)
    checked = _accuracies(early, checking, options.batch_size)
    source.bad.check()
    times = timing.measure(early, _some_pictures(checking), (1, 32))
    _print(early, checked, times)
    picture = out.with_suffix(".png")
    plots.draw(early.calibration, times[32], picture)
    print(f"wrote {out} and {picture}")


def _halves(split, seed):
    """Two halves of every class; the same pictures twice if no class has two."""
    from keras_inception.early_exit.calibration import halves

    chooses, checks = halves(split.labels, seed)
    if not len(checks):
        return split, split
    return split.take(chooses), split.take(checks)


def _accuracies(early, dataset, batch_size) -> dict[str, float]:
    """Of main alone and of early exits, on pictures that chose nothing."""
    import numpy as np

    from keras_inception.early_exit import EarlyExit

    plain = EarlyExit(early.model, {})
    hits = {"main alone": [], "early exits": []}
    for images, labels in dataset:
        for name, candidate in zip(hits, (plain, early), strict=True):
            probabilities, _ = candidate.predict(images, batch_size)
            hits[name].append(probabilities.argmax(-1) == np.asarray(labels))
    return {name: float(np.concatenate(of).mean()) for name, of in hits.items()}


def _some_pictures(dataset):
    import numpy as np

    pictures = []
    for images, _ in dataset:
        pictures.append(np.asarray(images))
        if sum(map(len, pictures)) >= TIMED:
            break
    return np.concatenate(pictures)[:TIMED]


def _print(early, checked, times) -> None:
    found = early.calibration
    print("\nexit      threshold  pictures  accuracy by itself")
    for name, accuracy in found.exit_accuracy.items():
        threshold = early.thresholds.get(name)
        shown = "" if threshold is None else f"{threshold:.4f}"
        share = found.chosen.shares.get(name, 0)
        print(f"{name:<10}{shown:>9}  {share:>8.1%}  {accuracy:>18.4f}")
    sizes = "".join(f"  ms, batch {size}" for size in times)
    print(f"\n             chosen by  checked  multiply-adds{sizes}")
    for name, point, seconds in (
        ("main alone", found.main, {size: t.main for size, t in times.items()}),
        ("early exits", found.chosen, {s: t.early_exit for s, t in times.items()}),
    ):
        cells = "".join(
            f"{1e3 * seconds[size]:>{len(f'  ms, batch {size}')}.2f}" for size in times
        )
        print(
            f"{name:<12} {point.accuracy:>9.4f}  {checked[name]:>7.4f}  "
            f"{point.multiply_adds:>13,.0f}{cells}"
        )
    speedups = " and ".join(f"{t.speedup:.2f}" for t in times.values())
    print(f"\n{speedups} times as fast in batches of {' and '.join(map(str, times))}")
    if not found.chosen.thresholds:
        print("no exit pays within the allowed drop")
    if found.raises_accuracy:
        print("the exits raise the accuracy: main overthinks more than they miss")
    print(
        f"{found.overthought:.1%} of the pictures are wrong at main and right at an "
        "exit (overthinking)"
    )
