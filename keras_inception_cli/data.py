"""Look at pictures before training on them.

Prints classes and the number of pictures in each split, sizes, and every file that is
left out with the reason, and draws one picture of each class as the network will see
it: once as in validation, then as in several epochs of training.
"""

import argparse
from pathlib import Path
from typing import Any

from keras_inception_cli import common, console, data_options, suspects

MOST_CLASSES = 20
MOST_FILES = 3  # of each kind; bad ones may need a repair
MOST_BAD = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `data`."""
    add = parser.add_argument
    add("data", metavar="DATA", help=data_options.DATA_HELP)
    add(
        "--output",
        type=Path,
        metavar="FILE.png",
        help="drawing (default: NAME-data.png)",
    )
    add("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    add(
        "--quick",
        action="store_true",
        help="read only each file's header and end; do not decode every picture",
    )
    add(
        "--image-size",
        type=int,
        help="input size in pixels (default: 32 or 64 for small pictures, else 224)",
    )
    add(
        "--seed",
        type=int,
        help="seed of the validation split and the augmentation (default: 0)",
    )
    suspects.add_argument(parser)
    data_options.add_augmentation_arguments(parser)
    data_options.add_data_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Prints a summary of the pictures and draws some of them."""
    if options.suspects:
        suspects.run(options)
        return
    options.seed = options.seed or 0
    if options.image_size is not None:
        common.check_at_least(options, {"image_size": 1})
    common.check_folders(options, "json", "output")
    with console.quiet_start():
        from keras_inception import data
        from keras_inception.defaults import default_architecture, default_input_size
        from keras_inception.files import write_json

    # Any number of bad files is listed first; only then the limit is checked.
    source = data_options.find_data(options, max_bad_fraction=1.0)
    if not options.quick and source.may_be_damaged:
        for split in source.by_split.values():
            with console.progress_bar("decoding", len(split)) as bar:
                for _ in data.whole_pictures(source, split):
                    bar.update()
    figures = _figures(source)
    print(data_options.describe_data(source))
    _print_figures(figures)
    input_size = options.image_size or default_input_size(
        default_architecture(source.picture_size), source.picture_size
    )
    sheet = options.output or Path(f"{source.name}-data.png")
    chosen = {name: getattr(options, name) for name in ("seed", "augment", "mirror")}
    augmentation = data.draw_contact_sheet(source, sheet, input_size, **chosen)
    print(f"input size: {input_size}x{input_size}, augmentation: {augmentation}")
    print(f"wrote {sheet}")
    if options.json:
        write_json(options.json, figures)
    source.bad.check(options.max_bad_fraction)


def _figures(source) -> dict[str, Any]:
    import numpy as np

    count = len(source.class_names)
    by_split = {
        name: np.bincount(split.labels, minlength=count).tolist()
        for name, split in source.by_split.items()
    }
    names, quantiles = ("least", "median", "most"), (0, 50, 100)
    sizes = np.percentile(source.sizes, quantiles, axis=0).T.tolist()
    width, height = (dict(zip(names, size, strict=True)) for size in sizes)
    return {
        "name": source.name,
        "classes": {
            class_name: {name: counts[label] for name, counts in by_split.items()}
            for label, class_name in enumerate(source.class_names)
        },
        **{name: sum(counts) for name, counts in by_split.items()},
        "width": width,
        "height": height,
        "bad_pictures": source.bad.report(),
        "passed_over": source.passed_over.report(),
        "duplicates": source.duplicates.report(),
    }


def _print_figures(figures: dict[str, Any]) -> None:
    classes = figures["classes"]
    rows = [(name, *counts.values()) for name, counts in classes.items()]
    rows.sort(key=lambda row: -row[1])
    ratio = rows[0][1] / max(1, rows[-1][1])
    more = len(rows) - MOST_CLASSES
    if more > 0:
        half, dots = MOST_CLASSES // 2, [""] * (len(rows[0]) - 1)
        rows = [*rows[:half], (f"... {more} more", *dots), *rows[-half:]]
    console.print_table(rows, ("class", *next(iter(classes.values()))))
    if ratio >= 2:
        print(
            f"the largest class has {ratio:.1f} times as many pictures as the "
            "smallest: consider train --class-weights balanced"
        )
    for name in ("width", "height"):
        least, median, most = figures[name].values()
        print(f"{name}: {least:.0f} to {most:.0f} pixels, median {median:.0f}")
    bad = [f"{fault['file']}: {fault['fault']}" for fault in figures["bad_pictures"]]
    _print_files("bad files", len(bad), bad, most=MOST_BAD)
    for row in figures["passed_over"]:
        suffixes = ", ".join(f"{k} {v}" for k, v in row["suffixes"].items())
        label = f"passed over, {row['reason']}"
        _print_files(label, row["count"], row["files"], suffixes)
    for kind, found in figures["duplicates"].items():
        if found["count"]:
            pairs = [f"{one} = {other}" for one, other in found["files"]]
            _print_files(f"copies {kind.replace('_', ' ')}", found["count"], pairs)


def _print_files(
    label: str, count: int, files: list[str], note: str = "", most: int = MOST_FILES
) -> None:
    """Prints a number of files and names the first few."""
    print(f"{label}: {count or 'none'}" + (f" ({note})" if note else ""))
    for file in files[:most]:
        print(f"  {file}")
    if count > most:
        print(f"  ... {count - most} more")
