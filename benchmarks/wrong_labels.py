"""How well wrong labels are found, by `evaluation.find_suspects` and by cleanlab.

    python -m benchmarks.wrong_labels FOLDER OUT.csv

For each seed, 5,000 training pictures of FOLDER are drawn, 500 of each class, and 5 %
of their labels changed to another class, all equally likely. A small GoogLeNet learns
them, and every score ranks them. cleanlab gets the same probabilities as this project.
The trainings:

    one run     recipe `small`; a fifth of the pictures is its validation split
    two halves  two runs, each of which predicts the half that it has not learned from

Each training leaves its records in --records and is not repeated. The rows of another
--epochs or --augment are kept in OUT.csv.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import keras_inception as ki
from benchmarks.small_pictures import in_memory
from benchmarks.tables import environment, read, versions, write
from keras_inception import data, evaluation, training
from keras_inception.data.splits import validation_mask
from keras_inception_cli.console import print_table

PER_CLASS, FLIPPED = 500, 0.05
IMAGE_SIZE, WIDTH, BATCH_SIZE = 32, 0.25, 32
TRAININGS = {"one run": 0.2, "two halves": 0.5}  # share of validation pictures
RECORDED = 5  # epochs
OURS = "find_suspects"
CLEANLAB = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
SETTINGS = ("training", "epochs", "augment", "seed")


def main() -> None:
    """Trains what is not recorded yet, scores all, and prints means over the seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="pictures, such as cifar10")
    add("out", type=Path, help="the CSV file of the rows")
    add("--records", type=Path, default=Path("runs/wrong_labels"))
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--trainings", choices=TRAININGS, nargs="+", default=list(TRAININGS))
    add("--epochs", type=int, default=10)
    add("--augment", choices=("none", "basic"), default="basic")
    options = parser.parse_args()
    source = data.find(options.folder)
    rows: list[dict] = list(read(options.out))
    done = {tuple(str(row[name]) for name in SETTINGS) for row in rows}
    for seed, name in itertools.product(options.seeds, options.trainings):
        settings = dict(
            zip(SETTINGS, (name, options.epochs, options.augment, seed), strict=True)
        )
        if tuple(map(str, settings.values())) in done:
            continue
        stem = "-".join(map(str, settings.values())).replace(" ", "-")
        record = options.records / f"{stem}.npz"
        if not record.exists():
            options.records.mkdir(parents=True, exist_ok=True)
            write_record(source, record, **settings)
        about = environment() | versions(["cleanlab", "scikit-learn"])
        rows += [settings | row | about for row in score(np.load(record))]
        write(options.out, rows)
    print_means(read(options.out))


def flip_labels(source: data.Source, seed: int) -> tuple[data.Split, np.ndarray]:
    """Draws pictures and changes some labels; also returns the true labels."""
    random = np.random.default_rng(seed)
    classes, split = len(source.class_names), source.train
    chosen = [
        random.choice(np.flatnonzero(split.labels == label), PER_CLASS, replace=False)
        for label in range(classes)
    ]
    split = split.take(np.sort(np.concatenate(chosen)))
    labels = split.labels.copy()
    flipped = random.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    labels[flipped] += random.integers(1, classes, len(flipped)).astype(labels.dtype)
    return dataclasses.replace(split, labels=labels % classes), split.labels


def write_record(
    source: data.Source, path: Path, training: str, epochs: int, augment: str, seed: int
) -> None:
    """Trains, and writes what every output says of the pictures.

    `epochs`: after some epochs, `(epochs, outputs, pictures, classes)`. `kept`: of the
    model that a run keeps, the best epoch's, `(2, outputs, pictures, classes)`: as the
    pictures are, and mirrored.
    """
    split, truth = flip_labels(source, seed)
    images, labels = in_memory(source, split, IMAGE_SIZE)
    share = TRAININGS[training]
    mask = validation_mask(labels, source.class_names, seed, share)
    # one run watches all pictures; a half's run the other half
    plans = [(mask, mask), (~mask, ~mask)] if share == 0.5 else [(mask, mask | True)]
    found: dict[str, np.ndarray] = {}
    for number, (held_out, watched) in enumerate(plans):
        model_path = path.with_suffix(f".{number}.keras")
        recorded = train(
            source, split, held_out, images[watched], model_path, epochs, augment, seed
        )
        model = keras.saving.load_model(model_path)
        recorded["kept"] = np.stack(
            [predict(model, x) for x in (images[watched], images[watched, :, ::-1])]
        )
        for name, part in recorded.items():
            shape = (*part.shape[:2], len(labels), part.shape[-1])
            found.setdefault(name, np.empty(shape, "float32"))[:, :, watched] = part
    about = {"labels": labels, "truth": truth, "held_out": mask}
    np.savez(path, **found, **about)


def train(
    source, split, held_out, watched, path, epochs, augment, seed
) -> dict[str, np.ndarray]:
    """Trains on the pictures that are not held out; keeps the best model at `path`."""
    keras.utils.set_random_seed(seed)
    parts = {
        "train": split.take(np.flatnonzero(~held_out)),
        "validation": split.take(np.flatnonzero(held_out)),
    }
    pictures = data.load(
        dataclasses.replace(source, **parts),
        IMAGE_SIZE,
        BATCH_SIZE,
        seed=seed,
        augment=augment,
    )
    model = ki.GoogLeNet(
        (IMAGE_SIZE, IMAGE_SIZE, 3),
        classes=len(source.class_names),
        architecture=ki.GOOGLENET_SMALL,
        width=WIDTH,
        batch_norm=True,
    )
    recipe = training.RECIPES["small"]
    model.compile(training.optimizer(recipe, epochs, len(pictures.train)))
    found = []

    def record(epoch: int, logs: dict) -> None:
        if (epoch + 1) % max(1, epochs // RECORDED) == 0:
            found.append(predict(model, watched))
            print(f"{path.stem} {epoch + 1}: {logs[training.MONITOR]:.3f}", flush=True)

    model.fit(
        pictures.train,
        validation_data=pictures.validation,
        epochs=epochs,
        verbose=0,
        shuffle=False,  # the pipeline shuffles
        callbacks=[
            training.KeepBest(path),
            keras.callbacks.LambdaCallback(on_epoch_end=record),
        ],
    )
    return {"epochs": np.stack(found)}


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities of all outputs, main first, `(outputs, pictures, classes)`."""
    batches = (
        images[start : start + 250].astype("float32")
        for start in range(0, len(images), 250)
    )
    parts = evaluation.class_probabilities(model, batches)
    return np.concatenate([np.stack(list(part.values())) for part in parts], axis=1)


def score(record) -> Iterator[dict[str, object]]:
    """A row for each kind of probabilities and each score of them."""
    from cleanlab.rank import get_label_quality_scores

    labels = record["labels"].astype(int)
    wrong = labels != record["truth"]
    kept, mirrored, epochs = record["kept"], record["kept"].mean(0), record["epochs"]
    probabilities = {
        "main": kept[0, :1],
        "all outputs": kept[0],
        "main, mirrored too": mirrored[:1],
        "all outputs, mirrored too": mirrored,
        "main, mean of epochs": epochs[:, 0],
        "all outputs, mean of epochs": epochs.reshape(-1, *epochs.shape[2:]),
    }
    for kind, outputs in probabilities.items():
        by_number = dict(enumerate(outputs.astype("float64")))
        found = evaluation.find_suspects(by_number, labels, record["held_out"])
        scores = {OURS: found.scores}
        mean = outputs.mean(0, dtype="float64")
        mean /= mean.sum(axis=1, keepdims=True)
        for method in CLEANLAB:
            quality = get_label_quality_scores(labels, mean, method=method)
            scores[f"cleanlab {method}"] = -quality
        for name, values in scores.items():
            first = np.argsort(-values, kind="stable")
            yield {
                "probabilities": kind,
                "score": name,
                "auroc": round(roc_auc_score(wrong, values), 4),
                "wrong_among_25": int(wrong[first[:25]].sum()),
                "wrong_among_250": int(wrong[first[:250]].sum()),
                "accuracy": round((mean.argmax(1) == record["truth"]).mean(), 4),
            }


def print_means(rows: list[dict[str, str]]) -> None:
    """Prints the means over the seeds."""
    keys = ("training", "epochs", "augment", "probabilities", "score")
    figures = ("auroc", "wrong_among_25", "wrong_among_250")
    groups: dict[tuple, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    cells = [
        [
            *group,
            len(of),
            *(f"{np.mean([float(r[x]) for r in of]):.4g}" for x in figures),
        ]
        for group, of in groups.items()
    ]
    print_table(cells, [*keys, "seeds", *figures], left=range(len(keys)))


if __name__ == "__main__":
    main()
