"""Cost of gradient reports and attribution relative to a training step.

    python -m benchmarks.gradient_flow --output benchmarks/results/gradient_flow.csv

Each way runs in its own process, so that its peak memory can be measured. Its time is
the median of the repetitions after the first; the first traces the graph and is
reported separately. The ways take turns in each round.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.tables import environment, write

WAYS = ("training step", "attribution step", "gradient_flow", "compiled probe")


def measure(way: str, side: int, width: float, batch: int, repetitions: int) -> dict:
    """Runs one way in this process: first and median seconds, peak memory in MB."""
    import keras
    import numpy as np

    import keras_inception as ki
    from keras_inception.gradients import Probe

    small = side < 112
    model = ki.GoogLeNet(
        (side, side, 3),
        architecture=ki.GOOGLENET_SMALL if small else ki.GOOGLENET,
        width=width,
        batch_norm=True,
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (batch, side, side, 3)).astype("float32")
    labels = random.integers(0, 1000, batch)
    probe = Probe(model, compiled=True)
    if way == "attribution step":
        ki.LossAttribution().set_model(model)  # replaces the training step
    run = {
        "attribution step": lambda: model.train_on_batch(images, labels),
        "training step": lambda: model.train_on_batch(images, labels),
        "gradient_flow": lambda: ki.gradient_flow(model, images, labels),
        "compiled probe": lambda: probe(images, labels),
    }[way]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repetitions + 1):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "way": way,
        "first_s": seconds[0],
        "median_s": statistics.median(seconds[1:]),
        "peak_mb": peak / 1024,
        "peak_above_built_model_mb": (peak - before) / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = (options.image_size, options.width, options.batch_size)
    if options.way:
        print(json.dumps(measure(options.way, *sizes, options.repetitions)))
        return
    rows = []
    for _ in range(options.rounds):
        for way in WAYS:
            done = subprocess.run(
                [
                    sys.executable,
                    *("-m", "benchmarks.gradient_flow"),
                    *sys.argv[1:],
                    *("--way", way),
                ],
                stdout=subprocess.PIPE,
                check=True,
            )
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            print(
                f"{way:<16} first {row['first_s']:6.2f} s, then {row['median_s']:.3f} "
                f"s; peak {row['peak_mb']:.0f} MB, "
                f"{row['peak_above_built_model_mb']:.0f} MB of it working",
                flush=True,
            )
    if options.output:
        settings = {
            "image_size": options.image_size,
            "width": options.width,
            "batch_size": options.batch_size,
        }
        rows = [settings | row | environment() for row in rows]
        write(options.output, rows)


if __name__ == "__main__":
    main()
