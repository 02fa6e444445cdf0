"""`data --suspects`: pictures whose label is probably wrong."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import common, console, data_options, splits

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_inception.data import Source
    from keras_inception.data.sources import AnySplit
    from keras_inception.evaluation import Suspects

MOST_SHOWN = 25
BATCH_SIZE = 32
_SIDE_SHOWN = 224  # pixels
_WITHOUT_EFFECT = ("json", "quick", "image_size", "augment")


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Declares `--suspects`."""
    parser.add_argument(
        "--suspects",
        metavar="MODEL",
        help="rank all pictures by how improbable MODEL, a .keras file, finds their "
        f"labels; draw the {MOST_SHOWN} most suspicious (default: NAME-suspects.png) "
        "and write all beside the drawing as CSV, instead of everything else",
    )


def run(options: argparse.Namespace) -> None:
    """Prints and draws the most suspicious labels, and writes all of them as CSV."""
    _check_options(options)
    with console.quiet_start():
        from keras_inception import evaluation

    model = common.load_model(options.suspects)
    source, split, name = splits.find_judged(options, {options.suspects: model})
    print(data_options.describe_data(source))
    by_split = source.by_split if name else {"all": split}
    mirror = _mirrors(options, source)
    pictures, found = _judge(model, source, by_split, mirror)
    source.bad.check()
    names = source.class_names
    rows = [
        (file, part, names[label], names[suggested], score)
        for (file, part, label), suggested, score in zip(
            pictures, found.suggested, found.scores.tolist(), strict=True
        )
    ]
    sheet = options.output or Path(f"{source.name}-suspects.png")
    table = sheet.with_suffix(".csv")
    _write_table(table, rows, found)
    shown = [rows[i] for i in found.ranking if found.suggested[i] != pictures[i][2]]
    shown = shown[:MOST_SHOWN]
    squares = _read(source, by_split, shown)
    titles = [f"{label} -> {suggested}" for _, _, label, suggested, _ in shown]
    evaluation.draw_pictures(squares, titles, sheet, "no suspicious labels")
    print(f"the {len(shown)} most suspicious labels of {len(rows)}:")
    console.print_table(
        [(*texts, f"{score:.3f}") for *texts, score in shown],
        ("picture", "split", "label", "suggested", "score"),
        left=range(4),
    )
    print(f"wrote {table} and {sheet}")


def _check_options(options: argparse.Namespace) -> None:
    given = [
        f"--{name.replace('_', '-')}"
        for name in _WITHOUT_EFFECT
        if getattr(options, name) not in (None, False)
    ]
    if given:
        raise ValueError(f"{', '.join(given)} can't be combined with --suspects.")
    common.check_folders(options, "output")
    if options.output and options.output.suffix.lower() != ".png":
        raise ValueError(f"--output must end in .png. Received: {options.output}")
    table = options.output and options.output.with_suffix(".csv").resolve()
    if table in (Path(file).resolve() for file in options.data.rsplit(":", 1)):
        raise ValueError(
            f"--output {options.output} would replace DATA, {table.name}, by the table "
            "beside the drawing. Give it another name."
        )


def _mirrors(options: argparse.Namespace, source: "Source") -> bool:
    """Whether a mirrored picture still shows its class: as in MODEL's training."""
    from keras_inception.training import RunDirectory

    run = RunDirectory.of_model(options.suspects)
    trained = run.read_config().settings.get("mirror") if run else None
    given = (x for x in (options.mirror, trained) if x is not None)
    return next(given, source.mirror)


def _judge(
    model: "keras.Model",
    source: "Source",
    by_split: "dict[str, AnySplit]",
    mirror: bool,
) -> "tuple[list[tuple[str, str, int]], Suspects]":
    """Every picture's file, split and label, and what the outputs say of them."""
    import numpy as np

    from keras_inception import data, evaluation
    from keras_inception.defaults import input_size_of

    pictures: list[tuple[str, str, int]] = []
    size = input_size_of(model)

    def batches():
        for name, split in by_split.items():
            batch = []
            for pixels, label, file in data.whole_pictures(source, split, size):
                pictures.append((file, name, label))
                batch.append(pixels)
                bar.update()
                if len(batch) == BATCH_SIZE:
                    yield np.stack(batch)
                    batch.clear()
            if batch:
                yield np.stack(batch)

    with console.progress_bar("predicting", sum(map(len, by_split.values()))) as bar:
        parts = list(evaluation.class_probabilities(model, batches(), mirror))
    if not parts:
        raise ValueError("There is no picture whose label could be wrong.")
    probabilities = {
        output: np.concatenate([part[output] for part in parts]) for output in parts[0]
    }
    _, names, labels = zip(*pictures, strict=True)
    return pictures, evaluation.find_suspects(
        probabilities, np.array(labels), np.array(names)
    )


def _write_table(path: Path, rows: list[tuple], found: "Suspects") -> None:
    from keras_inception.files import write_csv

    outputs = found.label_probabilities
    write_csv(
        path,
        ("picture", "split", "label", "suggested", "score", *outputs),
        (
            (*texts, f"{score:.6f}", *(f"{of[i]:.6f}" for of in outputs.values()))
            for i, (*texts, score) in ((i, rows[i]) for i in found.ranking)
        ),
    )


def _read(
    source: "Source", by_split: "dict[str, AnySplit]", shown: list[tuple]
) -> "list[np.ndarray]":
    """Reads the squares of a few pictures that were judged."""
    from keras_inception import data

    found = {}
    wanted = {(file, part) for file, part, *_ in shown}
    for part, split in by_split.items():
        if any(part == of for _, of in wanted):
            for pixels, _, file in data.whole_pictures(source, split):
                if (file, part) in wanted:
                    side = min(*pixels.shape[:2], _SIDE_SHOWN)
                    square = data.fit_square(pixels, side).numpy()
                    found[file, part] = square.round().astype("uint8")
                    if len(found) == len(wanted):
                        break
    return [found[file, part] for file, part, *_ in shown]
