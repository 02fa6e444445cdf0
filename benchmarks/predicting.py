"""`keras-inception predict` and `evaluate` on a folder, beside the model alone.

    python -m benchmarks.predicting FOLDER [--rounds 10]

FOLDER has a folder of JPEG files for each class. The model, GOOGLENET_SMALL of width
0.25 for 64 pixels with random weights, answers the pictures from an array in memory
(Keras's `predict` and `evaluate`, batches of 32), and the commands read, decode and
answer the same files, in turns. Loading and the first batch are not counted: the time
of the same command on a few pictures is subtracted. The processor time per picture is
written as well, since other work on the machine affects it least.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import keras_inception as ki
import keras_inception_cli
from benchmarks.tables import RESULTS, environment, write
from keras_inception.supervision import plain_classifier

SIZE, BATCH, FEW = 64, 32, 2  # of each class


def cost_of(work: Callable[[], object]) -> np.ndarray:  # wall and processor seconds
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return np.array((time.perf_counter() - wall, time.process_time() - processor))


def run(*words: object) -> None:
    """Runs a command, whose output is not shown."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert keras_inception_cli.main([str(word) for word in words]) == 0


def main() -> None:
    """Measures every command and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    folders = sorted(path for path in options.folder.iterdir() if path.is_dir())
    by_class = [sorted(folder.rglob("*.JPEG")) for folder in folders]
    files = [file for of_class in by_class for file in of_class]
    labels = np.repeat(np.arange(len(folders)), [len(each) for each in by_class])
    images = np.stack([ki.data.load_picture(file, SIZE) for file in files])
    model = ki.GoogLeNet(
        (SIZE, SIZE, 3),
        classes=len(folders),
        architecture=ki.GOOGLENET_SMALL,
        width=0.25,
    )
    model.class_names = [folder.name for folder in folders]
    model.compile()
    plain = plain_classifier(model)
    plain.predict(images[:BATCH], verbose=0)
    model.evaluate(images[:BATCH], labels[:BATCH], verbose=0)
    with tempfile.TemporaryDirectory() as root:
        saved, few = Path(root, "model.keras"), Path(root, "few")
        model.save(saved)
        for folder, of_class in zip(folders, by_class, strict=True):
            (few / folder.name).mkdir(parents=True)
            for file in of_class[:FEW]:
                (few / folder.name / file.name).symlink_to(file.resolve())
        counted = len(files) - FEW * len(folders)

        def alone(work: Callable[[np.ndarray, np.ndarray], object]) -> np.ndarray:
            return cost_of(lambda: work(images[-counted:], labels[-counted:]))

        def command(name: str, *more: str) -> np.ndarray:
            both = [
                cost_of(lambda folder=folder: run(name, saved, folder, *more))
                for folder in (options.folder, few)
            ]
            return both[0] - both[1]

        report = ("--split", "all", "--output", f"{root}/report")
        ways = {
            "Keras's predict": lambda: alone(
                lambda images, _: plain.predict(images, verbose=0)
            ),
            "predict": lambda: command("predict"),
            "Keras's evaluate": lambda: alone(
                lambda images, labels: model.evaluate(images, labels, verbose=0)
            ),
            "evaluate": lambda: command("evaluate", *report[:2]),
            "evaluate --output": lambda: command("evaluate", *report),
        }
        costs: dict[str, list[np.ndarray]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, measure in ways.items():
                costs[way].append(measure() / counted)
                print(f"{way}: {1000 * costs[way][-1][0]:.3f} ms a picture", flush=True)
    rows = []
    for way, of_way in costs.items():
        peer = "Keras's " + way.split()[0] if way[0].islower() else way
        ratios = [one[0] / two[0] for one, two in zip(costs[peer], of_way, strict=True)]
        wall, processor = np.median(of_way, 0)
        row = {
            "way": way,
            "pictures": len(files),
            "rounds": options.rounds,
            "per_second": round(1 / wall, 1),
            "share_of_model": round(float(np.median(ratios)), 3),
            "cpu_ms": round(1000 * processor, 3),
        }
        rows.append(row | environment())
    write(RESULTS / "predicting.csv", rows)


if __name__ == "__main__":
    main()
