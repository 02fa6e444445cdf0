"""Start-up times, each measured in a fresh process.

    python -m benchmarks.start_up

`keras-inception --help`; importing Keras, and `keras_inception` after it; building the
network; and from an exported file to its first answer in TensorFlow, ONNX Runtime and
OpenVINO (without importing them). The measurements take turns. Medians and quartiles
are written to benchmarks/results/start_up.csv, and a plot to start_up.png.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.inference import prepare
from benchmarks.tables import RESULTS, environment, write

TIMED = """
import time
{before}
began = time.perf_counter()
{timed}
print(time.perf_counter() - began)
"""
SAVED_MODEL = """
signature = tf.saved_model.load({path!r}).signatures["serving_default"]
signature(images=tf.zeros((1, 224, 224, 3)))["main"].numpy()
"""
ANSWER = "open_file({path!r})(np.zeros((1, 224, 224, 3), 'float32'))"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--files", type=Path, help="folder of benchmarks.inference")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or Path(folder)
        prepare(files)
        ways = waits(files / "googlenet")
        seconds = {name: [] for name in ways}
        for number in range(options.rounds):
            for name, wait in ways.items():
                seconds[name].append(wait())
            print(f"round {number + 1} of {options.rounds}", flush=True)
    rows = []
    for name, values in seconds.items():
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        rows.append(
            {
                "wait": name,
                "rounds": options.rounds,
                "median_s": round(middle, 3),
                "lower_quartile_s": round(low, 3),
                "upper_quartile_s": round(high, 3),
            }
        )
        print(f"{name:<34} {middle:6.3f} s ({low:.3f} to {high:.3f})")
    draw(RESULTS / "start_up.png", rows)
    write(RESULTS / "start_up.csv", [row | environment() for row in rows])


def waits(exports: Path) -> dict:
    """By name, functions that measure once and return the seconds."""
    opened = "import numpy as np; from keras_inception.export.formats import open_file"
    onnx, openvino = (
        str(exports / name) for name in ("onnx/1/model.onnx", "openvino/1/model.xml")
    )
    return {
        "keras-inception --help": help_shown,
        "import keras": lambda: timed("", "import keras"),
        "import keras_inception after it": lambda: timed(
            "import keras", "import keras_inception"
        ),
        "GoogLeNet() built": lambda: timed(
            "import keras_inception as ki", "ki.GoogLeNet()"
        ),
        "SavedModel, first answer": lambda: timed(
            "import tensorflow as tf", SAVED_MODEL.format(path=str(exports / "1"))
        ),
        "ONNX Runtime, first answer": lambda: timed(
            f"import onnxruntime; {opened}", ANSWER.format(path=onnx)
        ),
        "OpenVINO, first answer": lambda: timed(
            f"import openvino; {opened}", ANSWER.format(path=openvino)
        ),
    }


def help_shown() -> float:
    """Seconds of the command, from its start to its end."""
    began = time.perf_counter()
    _run([sys.executable, "-m", "keras_inception_cli", "--help"])
    return time.perf_counter() - began


def timed(before: str, code: str) -> float:
    """Seconds of `code` in a new process, after `before`, which is not timed."""
    words = [sys.executable, "-c", TIMED.format(before=before, timed=code)]
    return float(_run(words).splitlines()[-1])


def draw(path: Path, rows: list[dict]) -> None:
    """Draws bars of the medians, with quartiles."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    middle = [row["median_s"] for row in rows]
    errors = [
        [row["median_s"] - row["lower_quartile_s"] for row in rows],
        [row["upper_quartile_s"] - row["median_s"] for row in rows],
    ]
    axes.barh([row["wait"] for row in rows], middle, xerr=errors, height=0.7)
    axes.bar_label(axes.containers[-1], [f"{x:.2f} s" for x in middle], padding=4)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_xlabel("seconds; whiskers: quartiles")
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"wrote {path}")


def _run(words: list[str]) -> str:
    # With byte code on disk, as pip installs it.
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env=quiet,
    )
    return done.stdout


if __name__ == "__main__":
    main()
