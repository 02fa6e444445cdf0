"""Superclass labels for an early head, against class labels, and against no head.

    python -m benchmarks.coarse_heads FOLDER OUT.csv

FOLDER has train/, val/ and superclasses.csv. For each seed every arm starts from the
same trunk and sees the same pictures in the same order. A row is written after each
training, and a training whose row OUT.csv has already is skipped; the table at the end
is of all its rows.
"""

from functools import partial

import keras
import numpy as np

import keras_inception as ki
from benchmarks.small_pictures import batches, in_memory
from benchmarks.studies import run_study, study_parser
from keras_inception import data
from keras_inception.outputs import Output

ENDPOINT = "inception_4a"
ARMS = ("none", "fine", "coarse")
IMAGE_SIZE, WIDTH = 32, 0.25


def main() -> None:
    """Runs the study."""
    defaults = {"epochs": 4, "batch_size": 32, "learning_rate": 0.03}
    options = study_parser(__doc__, **defaults).parse_args()
    settings = {name: getattr(options, name) for name in defaults}
    source = data.find(options.folder)
    superclasses = ki.read_superclasses(
        options.folder / "superclasses.csv", source.class_names
    )
    pictures = [
        in_memory(source, split, IMAGE_SIZE)
        for split in (source.train, source.validation)
    ]
    train = partial(train_arm, superclasses, *pictures, **settings)
    run_study(options.out, ARMS, options.seeds, settings, train)


def train_arm(
    superclasses: list[str],
    training: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    arm: str,
    seed: int,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
) -> dict[str, object]:
    """Trains one arm with one seed; returns the accuracies of the last epoch."""
    keras.utils.set_random_seed(seed)
    heads = {
        "none": (),
        "fine": [ki.AuxiliaryHead(ENDPOINT, batch_norm=True)],
        "coarse": [
            ki.AuxiliaryHead(ENDPOINT, batch_norm=True, superclasses=superclasses)
        ],
    }
    model = ki.GoogLeNet(
        (IMAGE_SIZE, IMAGE_SIZE, 3),
        classes=len(superclasses),
        auxiliary=heads[arm],
        architecture=ki.GOOGLENET_SMALL,
        width=WIDTH,
        batch_norm=True,
    )
    pictures = batches(*training, batch_size, augment_seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate, epochs * len(pictures)
    )
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True))
    model.fit(pictures, epochs=epochs, shuffle=False, verbose=0)
    images, labels = validation
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
        name: "" if value is None else round(float(value), 4)
        for name, value in figures.items()
    }


def accuracies(main, aux, arm, labels, superclasses) -> dict[str, float | None]:
    """Accuracies of main and the head, in classes and in the superclasses of these."""

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
