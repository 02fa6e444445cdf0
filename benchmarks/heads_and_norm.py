"""Recipe `small` with and without heads, with and without batch normalisation.

    python -m benchmarks.heads_and_norm FOLDER OUT.csv

Every training is a run of the command `keras-inception train FOLDER`; its directory
stays in `--runs`. Seeds are the outer loop, so that an ended study is a balanced one. A
row is written when a training is done, and what OUT.csv has already is not trained
again; the table at the end is of all its rows.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import studies
from benchmarks.environment import environment

ARMS = {
    "batch norm and heads": (),
    "neither": ("--no-batch-norm", "--heads"),
    "batch norm": ("--heads",),
    "heads": ("--no-batch-norm",),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--runs", type=Path, default=Path("runs/heads_and_norm"))
    options = parser.parse_args()
    settings = {
        "epochs": options.epochs,
        "image_size": options.image_size,
        "width": options.width,
    }
    studies.refuse_other_settings(options.out, settings)
    done = {(row["arm"], int(row["seed"])) for row in studies.read(options.out)}
    for seed in range(options.seeds):
        for arm, words in ARMS.items():
            if (arm, seed) not in done:
                row = run(arm, words, seed, settings, options)
                studies.append(options.out, row)
    print(studies.table(studies.read(options.out)))


def run(arm: str, words: tuple[str, ...], seed: int, settings: dict, options) -> dict:
    """One training by the command; accuracies are those of the last epoch."""
    name = f"{arm.replace(' ', '-')}-{seed}"
    given = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    started = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "keras_inception_cli", "train", options.folder),
            *("--runs", options.runs, "--name", name, "--overwrite"),
            *("--recipe", "small", f"--seed={seed}", *given, *words),
        ],
        check=True,
    )
    seconds = time.perf_counter() - started
    last = studies.read(options.runs / name / "history.csv")[-1]
    accuracies = {
        f"{output}_accuracy": last.get(f"val_{output}_accuracy", "")
        for output in ("main", "aux_4a", "aux_4d")
    }
    return {
        "arm": arm,
        "seed": seed,
        **settings,
        **accuracies,
        "seconds": round(seconds),
        **environment(),
    }


if __name__ == "__main__":
    main()
