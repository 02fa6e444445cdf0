"""ONNX and OpenVINO files with early exits: compared with Python, and timed.

    python -m benchmarks.early_exit_files FOLDER --run runs/early_exit

On the validation pictures that did not calibrate `exits.json` of the run, each file is
compared with `EarlyExit.predict`, for random thresholds and requests of 1, 7 and 32
pictures, and timed in turns beside main alone in the same runtime.
"""

import argparse
import functools
from pathlib import Path

import keras
import numpy as np

import keras_inception as ki
from benchmarks.early_exit import last_epoch, side_by_side
from benchmarks.small_pictures import in_memory
from benchmarks.tables import environment, write
from keras_inception import data
from keras_inception.early_exit.answers import stratified_halves
from keras_inception.export.sessions import open_session


def files(options: argparse.Namespace) -> None:
    """Compares files that skip with Python, and times them beside main alone."""
    model = keras.saving.load_model(options.model or last_epoch(options.run))
    source = data.find(options.folder)
    early = ki.EarlyExit.load(options.run / "exits.json", model)
    judging = source.validation
    if not options.hold_out:
        judging = judging.take(stratified_halves(judging.labels, options.seed)[1])
    images, labels = in_memory(source, judging, model.inputs[0].shape[1])
    images = images.astype("float32")
    rows, agreements = [], []
    for name in options.formats:
        folder = options.run / name
        export = functools.partial(ki.export.export_format, model, folder, name)
        main = open_session(export()).run
        exits = open_session(export(early_exit=early)).run
        answers, left = in_batches(exits, images).values()
        facts = {
            "count": len(labels),
            "main_accuracy": np.mean(
                in_batches(main, images)["main"].argmax(-1) == labels
            ),
            "exits_accuracy": np.mean(answers.argmax(-1) == labels),
            **{f"share_{i}": np.mean(left == i) for i in range(len(early.segments))},
        }
        facts = {key: round(float(value), 4) for key, value in facts.items()}
        for per_call in (1, 32):
            row = side_by_side(
                f"{name}, requests of {per_call}",
                per_call,
                lambda images, run=main: run({"images": images}),
                lambda images, run=exits: run({"images": images}),
                images[: options.pictures],
                blocks=options.rounds,
            )
            rows.append(row | facts | environment())
            print(rows[-1], flush=True)
        agreements += agreement(name, early, exits, images[: options.compared])
    write(options.run / "early_exit_files.csv", rows)
    if agreements:
        write(options.run / "early_exit_agreement.csv", agreements)


def in_batches(run, images, size: int = 100) -> dict[str, np.ndarray]:
    """A file's answers: thousands of pictures at once need too much memory."""
    parts = [
        run({"images": images[start : start + size]})
        for start in range(0, len(images), size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def agreement(name: str, early, run, images):
    """Yields how far a file's answers and exits are from those in Python."""
    if not len(images):
        return
    random = np.random.default_rng(0)
    names = [segment.name for segment in early.segments]
    alone = early.model.predict(images, batch_size=256, verbose=0)
    for _ in range(5):
        thresholds, near = {}, np.zeros(len(images), bool)
        for exit_name in early.thresholds:
            confidences = early.confidences(exit_name, alone[exit_name])
            level = float(np.quantile(confidences, random.uniform()))
            thresholds[exit_name] = level
            near |= abs(confidences - level) < 1e-5
        given = np.array([*thresholds.values()], "float32")
        moved = ki.EarlyExit(
            early.model,
            thresholds,
            confidence=early.confidence,
            temperatures=early.temperatures,
        )
        expected, exits = moved.predict(images)
        for size in (1, 7, 32):
            answers, left = [], []
            for start in range(0, len(images), size):
                batch = {"images": images[start : start + size], "thresholds": given}
                answer = run(batch)
                answers.append(answer["main"])
                left.append(answer["exit"])
            same = np.array(names)[np.concatenate(left)] == exits
            difference = abs(np.concatenate(answers) - expected)[same].max()
            row = {
                "format": name,
                "batch": size,
                "thresholds": [round(t, 4) for t in thresholds.values()],
                "pictures": len(images),
                "largest_difference": float(difference),
                "other_exits": int((~same).sum()),
                "of_those_ties": int((~same & near).sum()),
            }
            print(row, flush=True)
            yield row


def main() -> None:
    """Compares and times the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", help="with train/ and val/, a folder per class")
    add("--run", type=Path, default=Path("runs/early_exit"))
    add("--model", help="(default: the run's)")
    add("--seed", type=int, default=0, help="of the halves")
    add(
        "--hold-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="as in benchmarks.early_exit; other than 0, all pictures are compared",
    )
    add("--formats", nargs="+", default=["onnx", "openvino"])
    add("--pictures", type=int, default=2500, help="to time")
    add("--compared", type=int, default=2000, help="pictures; 0: only time them")
    add("--rounds", type=int, default=25)
    files(parser.parse_args())


if __name__ == "__main__":
    main()
