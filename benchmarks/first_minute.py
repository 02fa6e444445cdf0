"""Where the first minute of `keras-inception train digits` goes.

    python -m benchmarks.first_minute

Trains two epochs at width 0.25, again and again, and reads the clock when the command
prints a line. Medians and quartiles are written to
benchmarks/results/first_minute.csv.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.tables import RESULTS, environment, write


def main() -> None:
    """Runs the command and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    rounds = []
    for _ in range(options.rounds):
        rounds.append(one_run())
        print({part: round(seconds, 1) for part, seconds in rounds[-1].items()})
    rows = []
    for part in rounds[0]:
        low, middle, high = statistics.quantiles(
            [one[part] for one in rounds], n=4, method="inclusive"
        )
        row = {"part": part, "rounds": options.rounds, "median_s": round(middle, 2)}
        row |= {"lower_quartile_s": round(low, 2), "upper_quartile_s": round(high, 2)}
        rows.append(row | environment())
    write(RESULTS / "first_minute.csv", rows)


def one_run() -> dict[str, float]:
    """Seconds of each part of a run."""
    words = [sys.executable, "-m", "keras_inception_cli", "train", "digits"]
    words += ["--width=0.25", "--epochs=2", "--overwrite", "--name=run"]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory() as folder:
        began, stamps = time.perf_counter(), {}
        process = subprocess.Popen(
            [*words, f"--runs={folder}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=quiet,
        )
        for line in process.stdout:
            stamps[line.split()[0]] = time.perf_counter() - began
            stamps.setdefault("first", time.perf_counter() - began)
        process.wait()
        whole = time.perf_counter() - began
    return {
        "until the first line": stamps["first"],
        "until the first epoch": stamps["epoch"] - stamps["first"],
        "first epoch": stamps["1/2"] - stamps["epoch"],
        "second epoch": stamps["2/2"] - stamps["1/2"],
        "after it": whole - stamps["2/2"],
        "all": whole,
    }


if __name__ == "__main__":
    main()
