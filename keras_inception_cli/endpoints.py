"""Rank a trained model's endpoints: what heads there could tell, and their costs.

Fits a linear probe to every endpoint's features, without training anything: its
accuracy on validation pictures, the multiply-adds and milliseconds to reach the
endpoint, and the gradient that a head there would send. --output also writes
endpoints.csv and endpoints.png.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import common, console, data_options, splits

if TYPE_CHECKING:
    import keras
    from tqdm import tqdm

    from keras_inception.data import Source
    from keras_inception.data.sources import AnySplit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `endpoints`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a .keras file, with heads or without")
    add("data", metavar="DATA", help=data_options.DATA_HELP)
    add("--output", type=Path, metavar="DIR", help="write table and picture there")
    add(
        "--pictures",
        type=int,
        default=5000,
        help="largest number of training pictures to fit probes to; up to half as "
        "many validation pictures judge them (default: 5000)",
    )
    add("--batch-size", type=int, default=32, help="pictures per batch (default: 32)")
    splits.add_seed_argument(parser)
    data_options.add_data_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Measures, prints and writes."""
    common.check_at_least(options, {"pictures": 2, "batch_size": 1})
    common.check_output_folder(options)
    with console.quiet_start():
        from keras_inception.endpoints.ranking import measure_endpoints
        from keras_inception.endpoints.report import (
            ranking_table,
            recommend,
            write_ranking,
        )

    model = common.load_model(options.model)
    options.split = "validation"  # its source has the training pictures too
    source, validation, _ = splits.find_judged(options, {options.model: model})
    learned = sampled(source.train, options.pictures)
    judging = sampled(validation, max(1, options.pictures // 2))
    print(
        f"{len(learned)} training pictures fit the probes, {len(judging)} validation "
        "pictures judge them",
        flush=True,
    )
    with console.progress_bar("probing", len(learned) + len(judging)) as bar:
        train, held_out = (
            counted_batches(source, part, model, options.batch_size, bar)
            for part in (learned, judging)
        )
        ranking = measure_endpoints(model, train, held_out)
    source.bad.check()
    print()
    columns, lines = ranking_table(ranking)
    console.print_table(lines, columns)
    for sentence in recommend(ranking):
        print(f"\n{sentence}")
    if options.output:
        files = write_ranking(options.output, ranking)
        print("\nwrote " + " and ".join(map(str, files)))


def sampled(split: "AnySplit", most: int) -> "AnySplit":
    """At most `most` pictures of a split, drawn at random, the same ones each time."""
    import numpy as np

    if len(split) <= most:
        return split
    drawn = np.random.default_rng(0).permutation(len(split))[:most]
    return split.take(np.sort(drawn))


def counted_batches(
    source: "Source",
    split: "AnySplit",
    model: "keras.Model",
    batch_size: int,
    bar: "tqdm",
) -> Iterator[tuple]:
    """Yields batches `(images, labels)` of a split, and advances a progress bar."""
    from keras_inception import data
    from keras_inception.defaults import input_size_of

    pictures = data.pipeline(source, split, input_size_of(model), batch_size)
    for images, labels in pictures.as_numpy_iterator():
        yield images, labels
        bar.update(len(labels))
