"""`data --suspects`: the pictures whose label is probably wrong."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_inception_cli import common, console, data_options

if TYPE_CHECKING:
    import numpy as np

    from keras_inception.data import Source
    from keras_inception.evaluation import Suspects

MOST_SHOWN = 25
BATCH_SIZE = 32
_LARGEST_SHOWN = 224  # pixels of a picture in the contact sheet
_OF_OTHER_DRAWING = ("json", "quick", "image_size", "augment", "mirror")


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Declares `--suspects`."""
    parser.add_argument(
        "--suspects",
        metavar="MODEL",
        help="instead, rank all pictures by how improbable MODEL (a .keras file "
        "trained on DATA) finds their labels; writes NAME-suspects.csv, and a drawing "
        f"of the {MOST_SHOWN} most suspicious",
    )


def run(options: argparse.Namespace) -> None:
    """Prints the most suspicious labels, draws them, and writes all as CSV."""
    _check_options(options)
    with console.quiet_start():
        from keras_inception import data, evaluation

    model = common.load_model(options.suspects)
    data_options.settle_seed(options, options.suspects)
    source = data_options.find_data(options)
    data_options.check_class_names(model, source)
    print(data_options.describe_data(source))
    sheet = options.output or Path(f"{source.name}-suspects.png")
    table = sheet.with_suffix(".csv")
    pictures, found = _find(model, source)
    source.bad.check()
    names = source.class_names
    rows = [
        (file, split, names[label], names[suggested], score)
        for (file, split, label), suggested, score in zip(
            pictures, found.suggested, found.scores.tolist(), strict=True
        )
    ]
    shown = [i for i in found.ranking if rows[i][2] != rows[i][3]]
    shown = shown[:MOST_SHOWN]
    _print(rows, shown)
    _write_table(table, rows, found)
    squares = _read(source, [pictures[index][:2] for index in shown])
    evaluation.draw_pictures(
        [square for square in squares],
        [f"{rows[i][2]} -> {rows[i][3]}\n{rows[i][4]:.3f}" for i in shown],
        sheet,
    )
    print(f"wrote {table} and {sheet}")
