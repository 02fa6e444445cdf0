"""Coarse labels for an early head against fine labels, and against no head.

    python -m benchmarks.coarse_heads FOLDER OUT.csv

FOLDER has train/, val/ and superclasses.csv. Each seed starts every arm from the same
trunk and shows it the same pictures in the same order. A row is written when a training
is done, and what OUT.csv has already is not trained again; the table at the end is of
all its rows.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np

import keras_inception as ki
from benchmarks import studies
from benchmarks.environment import environment
from benchmarks.small_pictures import batches, in_memory
from keras_inception import data
from keras_inception.outputs import Output

AT = "inception_4a"
ARMS = ("none", "fine", "coarse")
SIDE, WIDTH = 32, 0.25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.03)
    options = parser.parse_args()
    source = data.find(options.folder)
    superclasses = ki.read_superclasses(
        options.folder / "superclasses.csv", source.class_names
    )
    learning = in_memory(source, source.train, SIDE)
    held_out = in_memory(source, source.validation, SIDE)
    settings = {
        name: getattr(options, name)
        for name in ("epochs", "batch_size", "learning_rate")
    }
    studies.refuse_other_settings(options.out, settings)
    done = {(row["arm"], int(row["seed"])) for row in studies.read(options.out)}
    for seed in range(options.seeds):
        for arm in ARMS:
            if (arm, seed) not in done:
                row = run(arm, seed, superclasses, learning, held_out, options)
                studies.append(options.out, row)
    print(studies.table(studies.read(options.out)))


def run(arm, seed, superclasses, learning, held_out, options) -> dict:
    """Trains one arm from one seed; its figures are of the last epoch."""
    started = time.perf_counter()
    keras.utils.set_random_seed(seed)
    heads = {
        "none": (),
        "fine": [ki.AuxiliaryHead(AT, batch_norm=True)],
        "coarse": [ki.AuxiliaryHead(AT, batch_norm=True, superclasses=superclasses)],
    }
    model = ki.GoogLeNet(
        (SIDE, SIDE, 3),
        classes=len(superclasses),
        auxiliary=heads[arm],
        architecture=ki.GOOGLENET_SMALL,
        width=WIDTH,
        batch_norm=True,
    )
    pictures = batches(*learning, options.batch_size, augment_seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        options.learning_rate, options.epochs * len(pictures)
    )
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True))
    model.fit(pictures, epochs=options.epochs, shuffle=False, verbose=0)
    images, labels = held_out
    answers = {
        name: probabilities.argmax(-1)
        for name, probabilities in model.predict(
            images.astype("float32"), verbose=0
        ).items()
    }
    figures = accuracies(
        answers["main"], answers.get("aux_4a"), arm, labels, superclasses
    )
    return {
        "arm": arm,
        "seed": seed,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        **{
            name: "" if x is None else round(float(x), 4) for name, x in figures.items()
        },
        "seconds": round(time.perf_counter() - started),
        **environment(),
    }


def accuracies(main, aux, arm, labels, superclasses) -> dict[str, float | None]:
    """Of main and the head, in the classes and, from these, in the superclasses."""

    def coarse(classes):
        return np.asarray(Output(superclasses=superclasses).own_labels(classes))

    figures = {
        "main_accuracy": np.mean(main == labels),
        "main_coarse_accuracy": np.mean(coarse(main) == coarse(labels)),
        "aux_accuracy": None,
        "aux_coarse_accuracy": None,
    }
    if arm == "fine":
        figures["aux_accuracy"] = np.mean(aux == labels)
        figures["aux_coarse_accuracy"] = np.mean(coarse(aux) == coarse(labels))
    elif arm == "coarse":
        figures["aux_coarse_accuracy"] = np.mean(aux == coarse(labels))
    return figures


if __name__ == "__main__":
    main()
