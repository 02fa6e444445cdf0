"""What early exits save in wall time, and what they cost in accuracy.

    python -m benchmarks.early_exit train FOLDER
    python -m benchmarks.early_exit measure FOLDER

`train` learns a GoogLeNet for small pictures with two heads meant as exits, and leaves
a run directory. `measure` calibrates on one half of the held-out pictures, and times
early exits beside the plain main model, in turns, on the other half and on all.
"""

import argparse
from pathlib import Path

import keras

import keras_inception as ki
from benchmarks.small_pictures import batches, in_memory
from keras_inception import data, training

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
    run = training.RunDirectory(options.run, overwrite=options.overwrite)
    config = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
        "heads": list(model.heads),
    }
    training.train(model, learning, held_out, run, epochs=options.epochs, config=config)
    model.save(last_epoch(options.run))


def last_epoch(run: Path) -> Path:
    """The model as it was at the end, which no held-out picture has chosen."""
    return run / "last.keras"


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
    for command in (learn,):
        command.add_argument("folder", help="with train/ and val/, a folder per class")
        command.add_argument("--run", type=Path, default=Path("runs/early_exit"))
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
