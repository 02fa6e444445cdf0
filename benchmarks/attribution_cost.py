"""What an attribution costs: training steps with it and without, in turns.

    python -m benchmarks.attribution_cost OUT.csv

GoogLeNet with its two heads and batch normalization, SGD with momentum: small, for
pictures of 32 pixels, and at full size. `cost` is the median of the rounds' ratios.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks.alternation import Candidate, Turn, in_turns, ratios
from benchmarks.tables import environment, write

PLAIN, ATTRIBUTED = "plain", "attribution"
SIZES = {  # pixels, width, pictures per step, steps per turn
    "small": (32, 0.25, 32, 3),
    "full": (224, 1.0, 16, 1),
}


def training(account: bool, side: int, width: float) -> Callable[[int], object]:
    """Makes a function that trains a model on one batch."""
    import keras
    import numpy as np

    import keras_inception as ki

    model = ki.GoogLeNet(
        (side, side, 3),
        architecture=ki.GOOGLENET_SMALL if side < 112 else ki.GOOGLENET,
        width=width,
        batch_norm=True,
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    if account:
        ki.LossAttribution().set_model(model)  # replaces the training step
    random = np.random.default_rng(0)

    def step(batch: int) -> object:
        images = random.uniform(0, 255, (batch, side, side, 3)).astype("float32")
        return model.train_on_batch(images, random.integers(0, 1000, batch))

    return step


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the CSV file of the rows")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES])
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    found = []
    for size in options.sizes:
        side, width, batch, calls = SIZES[size]
        candidates = [
            Candidate(
                name,
                "benchmarks.attribution_cost:training",
                {"account": name == ATTRIBUTED, "side": side, "width": width},
            )
            for name in (PLAIN, ATTRIBUTED)
        ]
        rows = in_turns(candidates, [Turn(batch, calls)], options.rounds)
        for row, speed in zip(rows, ratios(rows, PLAIN), strict=True):
            del row["seconds"]
            row = {"network": size, **row, "cost": round(1 / speed, 2)}
            found.append(row | environment())
            print(
                f"{size}, {row['candidate']}: {row['median_ms']:.0f} ms per step of "
                f"{batch}, {row['cost']:.2f} times; at most {row['peak_mb']} MB"
            )
    write(options.out, found)


if __name__ == "__main__":
    main()
