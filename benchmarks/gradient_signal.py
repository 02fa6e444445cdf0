"""What a training step's gradient tells each stage: how much of it is not noise.

    python -m benchmarks.gradient_signal PICTURES/tinyimagenet20 OUT.csv

The gradients of two batches have something in common, which is where all pictures want
the weights to go; the rest differs from batch to batch. `signal` is the common part of
a batch's squared gradient: the mean product of the gradients of different batches over
the mean square of one. It is 1 if all batches say the same and 0 if nothing is common.
It is measured for each loss alone in every stage that the loss reaches, before and
after a training of the paired studies with the paper's heads, on held-out pictures.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from benchmarks.paired_pictures import Epochs, Pictures, read_pictures
from benchmarks.paired_studies import ARMS, REGIMES
from benchmarks.paired_training import Regime, build, compile_for
from benchmarks.tables import environment, read, write
from keras_inception.gradients.flow import Probe

BATCHES = 60


def measure(pictures: Pictures, regime: Regime, seed: int) -> Iterator[dict]:
    """Yields the rows of a training: before it, and after."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = build(regime, ARMS["paper"], pictures.superclasses, seed)
    batches = Epochs(*pictures.training, seed, regime.batch)
    compile_for(model, regime, len(batches))
    yield from ({"moment": "start", **row} for row in signals(model, pictures, regime))
    model.fit(batches, epochs=regime.epochs, verbose=0)
    yield from ({"moment": "end", **row} for row in signals(model, pictures, regime))


def signals(model, pictures: Pictures, regime: Regime) -> Iterator[dict]:
    """Yields a row for every stage and every loss that reaches it."""
    probe = Probe(model, training=True, compiled=True)
    dropouts = [x for x in model.layers if isinstance(x, keras.layers.Dropout)]
    held_out = Epochs(*pictures.held_out, 0, regime.batch)
    sums: dict[tuple[str, str], np.ndarray] = {}
    squares: dict[tuple[str, str], float] = defaultdict(float)
    for index in range(BATCHES):
        for layer in dropouts:  # a probe does not change their state: masks would stay
            layer.seed_generator.state.assign([index, 0])
        for key, gradient in probe.gradients(*held_out[index]).items():
            gradient = gradient.astype("float64")
            sums[key] = sums.get(key, 0.0) + gradient
            squares[key] += float(gradient @ gradient)
    for key, total in sums.items():
        products = (total @ total - squares[key]) / (BATCHES * (BATCHES - 1))
        mean_square = squares[key] / BATCHES
        yield {
            "stage": key[0],
            "loss": key[1],
            "norm": float(f"{mean_square**0.5:.4g}"),
            "signal": round(float(products / mean_square), 5),
        }


def main() -> None:
    """Measures what OUT lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path, metavar="OUT.csv")
    parser.add_argument("--seeds", type=int, default=3, help="(default: 3)")
    options = parser.parse_args()
    pictures = read_pictures(options.pictures)
    for seed in range(options.seeds):
        for name, regime in REGIMES.items():
            job = {"regime": name, "seed": str(seed)}
            rows = read(options.out)
            if any(job.items() <= row.items() for row in rows):
                continue
            new = [job | row | environment() for row in measure(pictures, regime, seed)]
            write(options.out, [*rows, *new])


if __name__ == "__main__":
    main()
