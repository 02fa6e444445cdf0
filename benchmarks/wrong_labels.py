"""How well wrong labels are found: by main alone, by all outputs, and by cleanlab."""

import argparse
import dataclasses
from pathlib import Path

import keras
import numpy as np

import keras_inception as ki
from benchmarks.small_pictures import in_memory
from keras_inception import data, training
from keras_inception.data.splits import validation_mask

PER_CLASS, FLIPPED = 500, 0.05
IMAGE_SIZE, WIDTH, BATCH_SIZE = 32, 0.25, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("folder", type=Path)
    add("--records", type=Path, default=Path("runs/wrong_labels"))
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--epochs", type=int, default=10)
    add("--ways", nargs="+", default=["run", "halves"])
    options = parser.parse_args()
    source = data.find(options.folder)
    for seed in options.seeds:
        for way in options.ways:
            path = options.records / f"{way}-{options.epochs}-{seed}.npz"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                record(source, way, seed, options.epochs, path)


def flipped_labels(source: data.Source, seed: int) -> tuple[data.Split, np.ndarray]:
    """Draws the pictures, and flips some labels: a split, and its true labels."""
    random = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            random.choice(
                np.flatnonzero(source.train.labels == label), PER_CLASS, False
            )
            for label in range(len(source.class_names))
        ]
    )
    split = source.train.take(np.sort(chosen))
    labels = split.labels.copy()
    flipped = random.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    classes = len(source.class_names)
    labels[flipped] += random.integers(1, classes, len(flipped)).astype(labels.dtype)
    return dataclasses.replace(split, labels=labels % classes), split.labels


def record(source, way: str, seed: int, epochs: int, path: Path) -> None:
    """Trains; writes the probabilities of every output after each epoch."""
    split, truth = flipped_labels(source, seed)
    images, labels = in_memory(source, split, IMAGE_SIZE)
    names = source.class_names
    if way == "run":
        mask = validation_mask(labels, names, seed, 0.2)
        record, scores = train_once(
            source, split, mask, images, seed, epochs, path.with_suffix(".keras")
        )
    else:
        mask = validation_mask(labels, names, seed, 0.5)
        record = scores = None
        for half, held_out in enumerate((mask, ~mask)):
            part, curve = train_once(
                source,
                split,
                held_out,
                images[held_out],
                seed,
                epochs,
                path.with_suffix(f".{half}.keras"),
            )
            if record is None:
                record = np.empty((*part.shape[:2], len(labels), part.shape[-1]), "f4")
                scores = []
            record[:, :, held_out] = part
            scores.append(curve)
    np.savez(
        path,
        probabilities=record,
        labels=labels,
        truth=truth,
        held_out=mask,
        accuracies=np.array(scores),
    )
    print("wrote", path, flush=True)


def train_once(source, split, held_out, watched, seed, epochs, path):
    keras.utils.set_random_seed(seed)
    part = dataclasses.replace(
        source,
        train=split.take(np.flatnonzero(~held_out)),
        validation=split.take(np.flatnonzero(held_out)),
    )
    pictures = data.load(part, IMAGE_SIZE, BATCH_SIZE, seed=seed)
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

    def keep(epoch, logs):
        if (epoch + 1) % max(1, epochs // 10):
            return
        by_output = model.predict(watched.astype("float32"), batch_size=250, verbose=0)
        found.append(np.stack(list(by_output.values())))
        print(
            path.stem,
            epoch + 1,
            {k: round(v, 3) for k, v in logs.items() if "accuracy" in k},
            flush=True,
        )

    history = model.fit(
        pictures.train,
        validation_data=pictures.validation,
        epochs=epochs,
        verbose=0,
        callbacks=[
            training.KeepBest(path),
            keras.callbacks.LambdaCallback(on_epoch_end=keep),
        ],
    )
    return np.stack(found), history.history[training.MONITOR]


if __name__ == "__main__":
    main()
