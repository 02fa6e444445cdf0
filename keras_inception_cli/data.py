"""Look at pictures before training on them.

Prints classes, counts, sizes and bad files, and draws what a network will see of some
pictures: as validation sees them, then as epoch after epoch of training does.
"""

import argparse
import json
from pathlib import Path

from keras_inception_cli import common, console, data_options

MOST_LISTED = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `data` takes."""
    parser.add_argument("data", metavar="DATA", help=data_options.DATA_HELP)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.png",
        help="where to draw (default: NAME-data.png)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures there as well"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="look at the headers and ends of the files alone, instead of decoding "
        "every picture once",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        help="side in pixels (default: as train: 32 or 64 for small pictures, else "
        "224)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the held-out share and the augmentation (default: 0)",
    )
    data_options.add_augmentation_arguments(parser)
    data_options.add_data_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Prints what there is and draws some of it."""
    if options.image_size is not None:
        common.check_at_least(options, {"image_size": 1})
    common.check_folders(options, "json", "output")
    with console.quiet_start():
        from keras_inception import data
        from keras_inception.defaults import default_architecture, default_input_size

    # more than are allowed are listed before they are an error
    allowed, options.max_bad_fraction = options.max_bad_fraction, 1.0
    source = data_options.find_data(options, report_bad=False)
    if not options.quick and source.may_be_damaged:
        for split in (source.train, source.validation):
            with console.progress_bar("decoding", len(split)) as bar:
                for _ in data.whole_pictures(source, split):
                    bar.update()
    figures = _figures(source)
    _print(figures)
    side = options.image_size or default_input_size(
        default_architecture(source.picture_size), source.picture_size
    )
    sheet = options.output or Path(f"{source.name}-data.png")
    augmentation = data.draw_contact_sheet(
        source,
        sheet,
        side,
        seed=options.seed,
        augment=options.augment,
        mirror=options.mirror,
    )
    print(f"a network sees {side}x{side} pixels, augmentation: {augmentation}")
    print(f"wrote {sheet}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    source.bad.max_fraction = allowed
    source.bad.check()


def _figures(source) -> dict:
    import numpy as np

    classes = len(source.class_names)
    train, held_out = (
        np.bincount(split.labels, minlength=classes).tolist()
        for split in (source.train, source.validation)
    )
    width, height = (np.percentile(side, (0, 50, 100)) for side in source.sizes.T)
    return {
        "name": source.name,
        "classes": {
            name: {"train": a, "held_out": b}
            for name, a, b in zip(source.class_names, train, held_out, strict=True)
        },
        "train": sum(train),
        "held_out": sum(held_out),
        "width": dict(zip(("least", "median", "most"), width.tolist(), strict=True)),
        "height": dict(zip(("least", "median", "most"), height.tolist(), strict=True)),
        "bad_pictures": source.bad.report(),
    }


def _print(figures: dict) -> None:
    classes = figures["classes"]
    print(
        f"{figures['name']}: {figures['train']} pictures to learn from, "
        f"{figures['held_out']} held out, {len(classes)} classes"
    )
    shown = sorted(classes, key=lambda name: -classes[name]["train"])
    if len(shown) > MOST_LISTED:
        half = MOST_LISTED // 2
        shown = [*shown[:half], None, *shown[-half:]]
    widest = max(5, *(len(name) for name in shown if name))
    print(f"{'class':<{widest}}  train  held out")
    for name in shown:
        if name is None:
            print(f"... {len(classes) - MOST_LISTED} more")
        else:
            row = classes[name]
            print(f"{name:<{widest}}  {row['train']:>5}  {row['held_out']:>8}")
    counts = [row["train"] for row in classes.values()]
    if max(counts) >= 2 * max(1, min(counts)):
        print(
            f"the largest class has {max(counts) / max(1, min(counts)):.1f} times the "
            "pictures of the smallest: consider train --class-weights balanced"
        )
    for name in ("width", "height"):
        least, median, most = figures[name].values()
        print(f"{name}: {least:.0f} to {most:.0f} pixels, median {median:.0f}")
    bad = figures["bad_pictures"]
    print(f"bad files: {len(bad) or 'none'}")
    for fault in bad[:MOST_LISTED]:
        print(f"  {fault['file']}: {fault['fault']}")
    if len(bad) > MOST_LISTED:
        print(f"  ... {len(bad) - MOST_LISTED} more")
