"""`keras-inception predict` on a folder, compared with the model alone, in turns.

    python -m benchmarks.predicting FOLDER [--rounds 9]

The model, GOOGLENET_SMALL of width 0.25 for 64 pixels with random weights, predicts the
folder's JPEG files from an array in memory (Keras's `predict`, batches of 32), and the
command reads, decodes and answers the same files. Loading and the first batch are
not counted: the time of the same command on one batch is subtracted. The processor time
per picture is written as well, since other work on the machine affects it least.
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

SIZE, BATCH = 64, 32


def cost_of(work: Callable[[], object]) -> np.ndarray:  # wall and processor seconds
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return np.array((time.perf_counter() - wall, time.process_time() - processor))


def predict(model: Path, folder: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        assert keras_inception_cli.main(["predict", str(model), str(folder)]) == 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    files = sorted(options.folder.rglob("*.JPEG"))
    images = np.stack([ki.data.load_picture(file, SIZE) for file in files])
    model = ki.GoogLeNet(
        (SIZE, SIZE, 3), classes=20, architecture=ki.GOOGLENET_SMALL, width=0.25
    )
    plain = plain_classifier(model)
    plain.predict(images[:BATCH], verbose=0)
    costs = []  # per picture, of a round: alone, ours
    with tempfile.TemporaryDirectory() as root:
        saved, few = Path(root, "model.keras"), Path(root, "few")
        model.save(saved)
        few.mkdir()
        for file in files[:BATCH]:
            (few / file.name).symlink_to(file.resolve())
        for _ in range(options.rounds):
            alone = cost_of(lambda: plain.predict(images[BATCH:], verbose=0))
            ours = cost_of(lambda: predict(saved, options.folder))
            ours -= cost_of(lambda: predict(saved, few))
            costs.append(np.stack([alone, ours]) / (len(files) - BATCH))
            print("ms per picture, wall and processor:", *1000 * costs[-1], flush=True)
    (alone, ours), ratios = np.median(costs, 0), [one / two for one, two in costs]
    row = {
        "pictures": len(files),
        "model_per_second": round(1 / alone[0], 1),
        "predict_per_second": round(1 / ours[0], 1),
        "ratio": round(float(np.median(ratios, 0)[0]), 3),
        "model_cpu_ms": round(1000 * alone[1], 3),
        "predict_cpu_ms": round(1000 * ours[1], 3),
    }
    write(RESULTS / "predicting.csv", [row | environment()])


if __name__ == "__main__":
    main()
