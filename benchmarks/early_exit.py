"""Early exits: the wall time that they save, and the accuracy that they cost.

    python -m benchmarks.early_exit train FOLDER
    python -m benchmarks.early_exit measure FOLDER

`train` trains a GoogLeNet for small pictures with two heads meant as exits, in a run
directory. `measure` calibrates on one half of the validation pictures, then times early
exits and the plain main model, in turns, on the other half and on all of them. With
`--confidence-level` the calibration itself divides them: the other half is its test.

    python -m benchmarks.early_exit train FOLDER --without-heads --run runs/plain
    python -m benchmarks.early_exit measure FOLDER --fit --run runs/plain

The same for exits that `EarlyExit.fit` gives to a model that was trained without heads.
`--model FILE` measures any other classifier of these pictures. With `--hold-out 0.1`,
given to both commands, a tenth of the training pictures is not learned but chooses the
thresholds, and all validation pictures judge them.
"""

import argparse
import functools
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_inception as ki
from benchmarks.small_pictures import batches, in_memory
from benchmarks.tables import environment, write
from keras_inception import data, training
from keras_inception.data.splits import stratified
from keras_inception.early_exit import timing
from keras_inception.early_exit.answers import stratified_halves

# Shallow heads save most: at 32 pixels and width 0.25 the first one's answer costs a
# third of the whole network, the second one's less than 60 %.
EXITS = ("inception_3a", "inception_4a")
IMAGE_SIZE = 32


def train(options: argparse.Namespace) -> None:
    """Trains for a fixed number of epochs, and keeps the last, not the best."""
    keras.utils.set_random_seed(options.seed)
    source = data.find(options.folder)
    # Exits answer on their own, so these heads are trained for accuracy: with less
    # dropout than the paper's heads and the weight of the main output.
    endpoints = () if options.without_heads else options.exits
    build = functools.partial(
        ki.GoogLeNet,
        (IMAGE_SIZE, IMAGE_SIZE, 3),
        classes=len(source.class_names),
        auxiliary=[
            ki.AuxiliaryHead(at, units=256, dropout=0.3, batch_norm=True)
            for at in endpoints
        ],
        architecture=ki.GOOGLENET_SMALL,
        width=options.width,
        batch_norm=True,
    )
    if options.bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = build()
    model.class_names = source.class_names
    learned, _ = stratified(source.train, source.class_names, 0, options.hold_out)
    pictures = batches(
        *in_memory(source, learned, IMAGE_SIZE), options.batch_size, options.seed
    )
    validation = batches(*in_memory(source, source.validation, IMAGE_SIZE), 100)
    schedule = keras.optimizers.schedules.CosineDecay(
        options.learning_rate, options.epochs * len(pictures)
    )
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        loss_weights=1.0,
        distillation=options.distillation,
    )
    run = training.RunDirectory.create(options.run, overwrite=options.overwrite)
    config = training.RunConfig(
        data=str(options.folder),
        epochs=options.epochs,
        heads=endpoints,
        seed=options.seed,
        settings={
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "width": options.width,
            "distillation": options.distillation,
            "hold_out": options.hold_out,
        },
    )
    training.train(model, pictures, validation, run, config=config)
    # Measured in float32, whatever it was trained in.
    keras.config.set_dtype_policy("float32")
    trained = build()
    trained.set_weights(model.get_weights())
    trained.class_names = source.class_names
    trained.save(last_epoch(options.run))


def last_epoch(run: Path) -> Path:
    """The model after the last epoch, which no validation accuracy has selected."""
    return run / "last.keras"


def measure(options: argparse.Namespace) -> None:
    """Calibrates on one half, times and counts on the other half and on all."""
    model = keras.saving.load_model(options.model or last_epoch(options.run))
    options.run.mkdir(parents=True, exist_ok=True)
    image_size = model.inputs[0].shape[1]
    source = data.find(options.folder)
    learned, spared = stratified(source.train, source.class_names, 0, options.hold_out)
    chooses, rest = map(
        source.validation.take,
        stratified_halves(
            source.validation.labels, 0 if options.confidence_level else options.seed
        ),
    )
    judging = {"other half": rest} | ({} if options.fit else {"all": source.validation})
    if options.hold_out:
        chooses, judging = spared, {"validation": source.validation}
    elif options.confidence_level:
        chooses = source.validation
    held_out = in_memory(source, chooses, image_size)
    if options.fit:
        keras.utils.set_random_seed(options.seed)
        pictures = in_memory(source, learned, image_size)
        started = time.perf_counter()
        early = ki.EarlyExit.fit(
            model,
            pictures,
            held_out,
            max_accuracy_drop=options.max_drop,
            confidence_level=options.confidence_level,
        )
        print(f"fitted in {time.perf_counter() - started:.0f} seconds")
        early.model.save(options.run / "with_exits.keras")
    else:
        early = ki.EarlyExit.calibrate(
            model,
            held_out,
            options.max_drop,
            confidence_level=options.confidence_level,
        )
    early.save(options.run / "exits.json")
    found = early.calibration
    print(f"thresholds {early.thresholds}, temperatures {early.temperatures}")
    print(f"accuracy of each output on its own: {found.exit_accuracy}")
    print(
        f"multiply-adds {found.main.multiply_adds:,.0f} -> "
        f"{found.chosen.multiply_adds:,.0f}; overthought {found.overthought:.4f}"
    )
    rows = []
    for pictures, split in judging.items():
        images, labels = in_memory(source, split, image_size)
        images = images.astype("float32")
        accuracies = right_answers(early, images, labels)
        print({"pictures": pictures, **accuracies}, flush=True)
        for calls in ways_to_call(early, options.run):
            row = {"pictures": pictures, "count": len(labels), **accuracies}
            rows.append(row | side_by_side(*calls, images) | environment())
            print(rows[-1], flush=True)
    name = "early_exit_fit.csv" if options.fit else "early_exit.csv"
    write(options.run / name, rows)


def right_answers(early, images, labels) -> dict[str, float]:
    """Accuracy of main alone and with exits, and the share that leaves at each."""
    main, _ = ki.EarlyExit(early.model, {}).predict(images, 256)
    answers, exits = early.predict(images, 256)
    shares = {name: np.mean(exits == name) for name in [*early.thresholds, "main"]}
    return {
        "main_accuracy": round(float(np.mean(main.argmax(-1) == labels)), 4),
        "exits_accuracy": round(float(np.mean(answers.argmax(-1) == labels)), 4),
        **{f"share_{name}": round(float(share), 4) for name, share in shares.items()},
    }


def ways_to_call(early, folder: Path):
    """Yields `(name, pictures per call, main alone, exits)`, both compiled alike.

    In Python and as the exported signatures; pictures one by one, in calls of 32, and
    in calls of 320 that are computed in batches of 32.
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


def side_by_side(way, per_call: int, main, exits, images, blocks: int = 250) -> dict:
    """Wall time of both on the same pictures, in turns."""
    # Short turns, so that other work on the machine affects both alike.
    seconds = timing.time_alternately(
        {"main": main, "exits": exits}, images, per_call, blocks
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
    """Trains or measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train_parser = commands.add_parser("train", help="train the network")
    train_parser.add_argument("--epochs", type=int, default=6)
    train_parser.add_argument("--batch-size", type=int, default=64)
    train_parser.add_argument("--learning-rate", type=float, default=0.05)
    train_parser.add_argument("--seed", type=int, default=0)
    train_parser.add_argument("--overwrite", action="store_true")
    train_parser.add_argument("--width", type=float, default=0.25)
    train_parser.add_argument("--exits", nargs="+", default=EXITS, metavar="ENDPOINT")
    train_parser.add_argument("--distillation", type=float, default=0.0)
    train_parser.add_argument("--bfloat16", action="store_true", help="train in it")
    train_parser.add_argument(
        "--without-heads", action="store_true", help="a plain classifier, for `fit`"
    )
    train_parser.set_defaults(do=train)
    measure_parser = commands.add_parser("measure", help="calibrate and time exits")
    measure_parser.add_argument("--model", help="(default: the run's)")
    measure_parser.add_argument("--max-drop", type=float, default=0.005)
    measure_parser.add_argument("--confidence-level", type=float)
    measure_parser.add_argument("--seed", type=int, default=0, help="of the halves")
    measure_parser.add_argument(
        "--fit", action="store_true", help="give the model heads for exits first"
    )
    measure_parser.set_defaults(do=measure)
    for command in (train_parser, measure_parser):
        command.add_argument("folder", help="with train/ and val/, a folder per class")
        command.add_argument("--run", type=Path, default=Path("runs/early_exit"))
        command.add_argument("--hold-out", type=float, default=0.0, metavar="SHARE")
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
