"""Checks that the parts of an attribution add up to the displacement of the weights.

    python -m benchmarks.attribution_sums tinyimagenet20 OUT.csv
    python -m benchmarks.attribution_sums digits OUT.csv

Trains a small GoogLeNet with two heads and dropout on pictures, once for each way to
use SGD, and compares in every stage the sum of the losses' displacements with the
displacement of the weights. Exit status 1 if any is further off than 1e-4 of the
latter.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_inception as ki
from benchmarks.paired_pictures import Epochs, read_pictures
from benchmarks.paired_studies import ARMS, REGIMES
from benchmarks.paired_training import build
from benchmarks.tables import environment, write
from keras_inception.optimizers import LayerwiseSGD

LARGEST = 1e-4
SGD = keras.optimizers.SGD
RESUMED = "resumed"  # Nesterov's, saved and loaded halfway


def optimizers(steps: int) -> dict[str, keras.optimizers.Optimizer]:
    """An optimizer for each way."""
    schedule = keras.optimizers.schedules.CosineDecay(0.03, steps)
    nesterov = {"momentum": 0.9, "nesterov": True}
    layerwise = {"factors": {"conv2_3x3": 0.3}, "kernel_decay": 1e-3}
    return {
        "plain": SGD(0.03),
        "Nesterov": SGD(0.03, **nesterov),
        "scheduled, weights decayed": SGD(schedule, **nesterov, weight_decay=1e-3),
        "clipped": SGD(0.03, momentum=0.9, global_clipnorm=1.0),
        "layerwise": LayerwiseSGD(schedule, **nesterov, **layerwise),
        RESUMED: SGD(0.03, **nesterov),
    }


def errors(model, batches: Epochs, resume: bool) -> dict[str, float]:
    """Trains for two epochs; the relative error of the sum, by stage."""
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    account = ki.LossAttribution()
    fit = {"shuffle": False, "verbose": 0}
    if resume:
        model.fit(batches, epochs=1, callbacks=[account], **fit)
        with tempfile.TemporaryDirectory() as folder:
            model.save(file := Path(folder, "half.keras"))
            model = keras.saving.load_model(file)
        account = ki.LossAttribution(state=account.state())
    first = int(resume)
    model.fit(batches, epochs=2, initial_epoch=first, callbacks=[account], **fit)
    ledger, variables = model.attribution_ledger, model.trainable_variables
    found = {}
    for stage, positions in ledger.stages.items():
        missing = moved = 0.0
        for position in positions:
            went = keras.ops.convert_to_numpy(variables[position]) - before[position]
            parts = (of_loss.get(position) for of_loss in ledger.moved.values())
            total = sum(keras.ops.convert_to_numpy(p) for p in parts if p is not None)
            missing += float(np.square(went - total).sum())
            moved += float(np.square(went).sum())
        found[stage] = (missing / moved) ** 0.5
    return found


def main() -> None:
    """Runs the check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="with train/ and val/; or digits")
    parser.add_argument("out", type=Path, help="the CSV file of the rows")
    help_text = "training pictures (default: 80)"
    parser.add_argument("--regime", choices=REGIMES, default="He")
    parser.add_argument("--per-class", type=int, default=80, help=help_text)
    options = parser.parse_args()
    pictures = read_pictures(options.folder, options.per_class, held_out=20)
    rows, steps = [], 2 * len(Epochs(*pictures.training, 0))
    for way, optimizer in optimizers(steps).items():
        keras.utils.set_random_seed(0)
        regime = REGIMES[options.regime]
        model = build(regime, ARMS["paper"], pictures.superclasses, 0)
        model.compile(optimizer, jit_compile=False)
        batches = Epochs(*pictures.training, 0)
        for stage, error in errors(model, batches, resume=way == RESUMED).items():
            row = {
                "regime": options.regime,
                "way": way,
                "steps": steps,
                "stage": stage,
                "error": error,
            }
            rows.append(row | environment())
        worst = max(row["error"] for row in rows if row["way"] == way)
        print(f"{way}, {steps} steps: {worst:.1e} in the worst stage", flush=True)
        write(options.out, rows)
    sys.exit(any(row["error"] > LARGEST for row in rows))


if __name__ == "__main__":
    main()
