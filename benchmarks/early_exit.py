"""What early exits save in wall time, and what they cost in accuracy.

    python -m benchmarks.early_exit train FOLDER
    python -m benchmarks.early_exit measure FOLDER

`train` learns a GoogLeNet for small pictures with two heads meant as exits, and leaves
a run directory. `measure` calibrates on one half of the held-out pictures, and times
early exits beside the plain main model, in turns, on the other half and on all.
"""

import argparse
import functools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_inception as ki
from benchmarks.environment import environment
from benchmarks.small_pictures import batches, in_memory
from benchmarks.tables import write
from keras_inception import data, training
from keras_inception.early_exit import timing
from keras_inception.early_exit.calibration import stratified_halves

# Early enough to save much: at 32 pixels and width 0.25 the network up to the first
# head's answer costs a third of the whole, up to the second's less than 60 %.
EXITS = ("inception_3a", "inception_4a")
SIDE, WIDTH = 32, 0.25


def train(options: argparse.Namespace) -> None:
    """Trains for a fixed number of epochs; the last one counts, none is chosen."""
    keras.utils.set_random_seed(options.seed)
    source = data.find(options.folder)
    # Exits have to answer well by themselves: smaller than the paper's heads, with less
    # dropout, and with the weight of the main output.
    heads = [
        ki.AuxiliaryHead(at, units=256, dropout=0.3, batch_norm=True) for at in EXITS
    ]
    model = ki.GoogLeNet(
        (SIDE, SIDE, 3),
        classes=len(source.class_names),
        auxiliary=heads,
        architecture=ki.GOOGLENET_SMALL,
        width=WIDTH,
        batch_norm=True,
    )
    model.class_names = source.class_names
    learning = batches(
        *in_memory(source, source.train, SIDE), options.batch_size, options.seed
    )
    held_out = batches(*in_memory(source, source.validation, SIDE), 100)
    schedule = keras.optimizers.schedules.CosineDecay(
        options.learning_rate, options.epochs * len(learning)
    )
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True), loss_weights=1.0
    )
    run = training.RunDirectory.create(options.run, overwrite=options.overwrite)
    config = training.RunConfig(
        data=str(options.folder),
        epochs=options.epochs,
        heads=EXITS,
        seed=options.seed,
        settings={
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
        },
    )
    training.train(model, learning, held_out, run, config=config)
    model.save(last_epoch(options.run))


def last_epoch(run: Path) -> Path:
    """The model as it was at the end, which no held-out picture has chosen."""
    return run / "last.keras"


def measure(options: argparse.Namespace) -> None:
    """Calibrates on one half, times and counts on the other half and on all."""
    model = keras.saving.load_model(last_epoch(options.run))
    source = data.find(options.folder)
    chooses, checks = map(
        source.validation.take,
        stratified_halves(source.validation.labels, options.seed),
    )
    early = ki.EarlyExit.calibrate(
        model, in_memory(source, chooses, SIDE), options.max_drop
    )
    early.save(options.run / "exits.json")
    found = early.calibration
    print(f"thresholds {early.thresholds}, temperatures {early.temperatures}")
    print(f"accuracy of each output by itself: {found.exit_accuracy}")
    print(
        f"multiply-adds {found.main.multiply_adds:,.0f} -> "
        f"{found.chosen.multiply_adds:,.0f}; overthought {found.overthought:.4f}"
    )
    rows = []
    for pictures, split in (("other half", checks), ("all", source.validation)):
        images, labels = in_memory(source, split, SIDE)
        images = images.astype("float32")
        accuracies = right_answers(early, images, labels)
        print({"pictures": pictures, **accuracies}, flush=True)
        for calls in ways_to_call(early, options.run):
            row = {"pictures": pictures, "count": len(labels), **accuracies}
            rows.append(row | side_by_side(*calls, images) | environment())
            print(rows[-1], flush=True)
    write(options.run / "early_exit.csv", rows)


def right_answers(early, images, labels) -> dict[str, float]:
    """Accuracy of main alone and of exits, and the share that leaves at each."""
    main, _ = ki.EarlyExit(early.model, {}).predict(images, 256)
    answers, exits = early.predict(images, 256)
    shares = {name: np.mean(exits == name) for name in [*early.thresholds, "main"]}
    return {
        "main_accuracy": round(float(np.mean(main.argmax(-1) == labels)), 4),
        "exits_accuracy": round(float(np.mean(answers.argmax(-1) == labels)), 4),
        **{f"share_{name}": round(float(share), 4) for name, share in shares.items()},
    }


def ways_to_call(early, folder: Path):
    """What is compared: `(name, per call, main alone, exits)`, compiled alike.

    In Python and as the exported signatures; pictures one by one, in calls of 32, and
    320 in a call that computes them in batches of 32.
    """
    plain = ki.EarlyExit(early.model, {})
    path = ki.export.export_saved_model(early.model, folder / "saved", early_exit=early)
    served = tf.saved_model.load(path).signatures
    for name, per_call, batch_size in (
        ("batch 1", 1, 1),
        ("batch 32", 320, 32),
        ("batch 32, a call for each", 32, 32),
    ):
        yield (
            name,
            per_call,
            *(
                functools.partial(one.predict, batch_size=batch_size)
                for one in (plain, early)
            ),
        )
    for per_call in (1, 32):
        yield (
            f"served, requests of {per_call}",
            per_call,
            *(
                lambda images, name=name: served[name](images=tf.constant(images))
                for name in ("serving_default", "serving_early_exit")
            ),
        )


def side_by_side(way, per_call: int, main, exits, images) -> dict:
    """Wall time of both on the same pictures, in turns."""
    # turns as short as can be: other work on the machine then meets both alike
    seconds = timing.time_alternately(
        {"main": main, "exits": exits}, images, per_call, blocks=250
    )
    ratios = seconds["main"] / seconds["exits"]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    totals = {name: of.sum() for name, of in seconds.items()}
    return {
        "way": way,
        "main_ms": round(float(1e3 * totals["main"] / len(images)), 3),
        "exits_ms": round(float(1e3 * totals["exits"] / len(images)), 3),
        "times_as_fast": round(float(totals["main"] / totals["exits"]), 2),
        "median_of_turns": round(float(middle), 2),
        "quartiles": f"{low:.2f} to {high:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    learn = commands.add_parser("train")
    learn.add_argument("--epochs", type=int, default=6)
    learn.add_argument("--batch-size", type=int, default=64)
    learn.add_argument("--learning-rate", type=float, default=0.05)
    learn.add_argument("--seed", type=int, default=0)
    learn.add_argument("--overwrite", action="store_true")
    learn.set_defaults(do=train)
    see = commands.add_parser("measure")
    see.add_argument("--max-drop", type=float, default=0.005)
    see.add_argument("--seed", type=int, default=0, help="of the halves")
    see.set_defaults(do=measure)
    for command in (learn, see):
        command.add_argument("folder", help="with train/ and val/, a folder per class")
        command.add_argument("--run", type=Path, default=Path("runs/early_exit"))
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
