"""Train GoogLeNet with its auxiliary classifiers on pictures.

Everything is written to RUNS/NAME: config.json, history.csv, model.keras (the epoch
with the best val_main_accuracy), tensorboard/ and result.json.
"""

import argparse
from pathlib import Path

from keras_inception_cli import coarse
from keras_inception_cli.common import (
    DATA_HELP,
    add_augmentation_arguments,
    add_data_arguments,
    check_at_least,
    find_data,
    fitting_side,
    load_model,
    picture_side,
    quiet_start,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `train` takes."""
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    run = parser.add_argument_group("the run")
    run.add_argument("--name", help="name of the run (default: the data's)")
    run.add_argument("--runs", type=Path, default=Path("runs"), help="(default: runs)")
    run.add_argument(
        "--overwrite", action="store_true", help="delete an earlier run of this name"
    )
    run.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    run.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    run.add_argument(
        "--learning-rate",
        type=float,
        default=0.02,
        help="at the start, falling to 0 along a cosine (default: 0.02)",
    )
    run.add_argument("--seed", type=int, default=0, help="(default: 0)")
    board = parser.add_argument_group("TensorBoard, in RUNS/NAME/tensorboard")
    board.add_argument(
        "--gradients",
        action="store_true",
        help="log after each epoch how much gradient each stage gets from each loss",
    )
    board.add_argument(
        "--profile",
        nargs=2,
        type=int,
        metavar=("FIRST", "LAST"),
        help="profile these training steps (needs tensorboard-plugin-profile to view)",
    )
    pictures = parser.add_argument_group("the pictures")
    add_augmentation_arguments(pictures)
    pictures.add_argument(
        "--class-weights",
        choices=("balanced",),
        help="let every class count alike, however many pictures it has",
    )
    add_data_arguments(pictures)
    network = parser.add_argument_group("the network")
    network.add_argument(
        "--architecture",
        choices=("googlenet", "googlenet_small", "googlenet_torchvision"),
        help="(default: googlenet_small for pictures below 112 pixels, else googlenet)",
    )
    network.add_argument(
        "--image-size",
        type=int,
        help="side in pixels (default: 32 or 64 for small pictures, else 224)",
    )
    network.add_argument(
        "--width", type=float, default=1.0, help="times the filters (default: 1)"
    )
    network.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="batch normalisation, which the paper's network has not (default: on)",
    )
    tuning = parser.add_argument_group("fine-tuning a trained network")
    tuning.add_argument(
        "--weights",
        metavar="FILE",
        help="start from this .keras file (as train and convert write), or from "
        "'imagenet'; the network is the file's",
    )
    tuning.add_argument(
        "--freeze",
        metavar="STAGE",
        help="this stage and all before it don't learn; inception_5b is the whole "
        "trunk",
    )
    tuning.add_argument(
        "--layer-decay",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="each stage learns at this share of the next one's rate, for example 0.8 "
        "(default: 1)",
    )
    heads = parser.add_argument_group("the auxiliary heads")
    heads.add_argument(
        "--heads",
        nargs="*",
        default=["inception_4a", "inception_4d"],
        metavar="ENDPOINT",
        help="where they hang; nothing after --heads for none "
        "(default: inception_4a inception_4d)",
    )
    heads.add_argument(
        "--aux-weight",
        type=float,
        default=0.3,
        help="of each head's loss (default: 0.3)",
    )
    coarse.add_arguments(heads)


def run(options: argparse.Namespace) -> None:
    """Trains and leaves a run directory."""
    check_at_least(options, {"epochs": 1, "batch_size": 1})
    if not options.learning_rate > 0:
        raise ValueError(
            f"--learning-rate must be above 0. Received: {options.learning_rate}"
        )
    with quiet_start():
        import keras
        import tensorflow as tf

        import keras_inception as ki
        from keras_inception import data, fine_tuning, training

    source = find_data(options)
    small = source.image_size < 224
    architecture = ki.ARCHITECTURES[
        options.architecture or ("googlenet_small" if small else "googlenet")
    ]
    side = options.image_size
    if options.weights:
        architecture = ki.GOOGLENET  # stands for the file's own
        if side is None and options.weights != "imagenet":
            side = picture_side(load_model(options.weights))
    side = side or fitting_side(source, architecture)
    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()
    batch_norm = options.batch_norm and not options.weights
    model = ki.GoogLeNet(
        (side, side, 3),
        classes=len(source.class_names),
        auxiliary=coarse.heads(options, source.class_names, batch_norm),
        architecture=architecture,
        width=options.width,
        batch_norm=batch_norm,
        weights=options.weights,
    )
    if options.freeze:
        fine_tuning.freeze_through(model, options.freeze)
    factors = fine_tuning.layer_decay_factors(model, options.layer_decay)
    model.class_names = source.class_names
    pictures = data.load(
        source,
        side,
        options.batch_size,
        seed=options.seed,
        augment=options.augment,
        mirror=options.mirror,
    )
    steps = options.epochs * len(pictures.train)
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)
    model.compile(
        fine_tuning.LayerwiseSGD(schedule, momentum=0.9, nesterov=True, factors=factors)
        if options.layer_decay != 1
        else keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        loss_weights=options.aux_weight,
    )
    run = training.RunDirectory(
        options.runs / (options.name or source.name), overwrite=options.overwrite
    )
    heads = coarse.listed(model) or "none"
    print(
        f"{source.name}: {len(source.train)} pictures to learn from, "
        f"{len(source.validation)} held out, {len(source.class_names)} classes, "
        f"augmentation: {pictures.augmentation}\n"
        f"{model.name} at {side}x{side}: {model.count_params():,} parameters, "
        f"auxiliary heads: {heads}"
    )
    config = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in vars(options).items()
        if key not in ("run", "overwrite")
    } | {
        "architecture": model.name,
        "image_size": side,
        "augment": pictures.augmentation,
        "class_names": source.class_names,
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
    }
    callbacks = [
        training.TensorBoard(
            run.tensorboard,
            *next(iter(pictures.validation.unbatch().batch(8).as_numpy_iterator())),
            hparams=_hparams(config),
            profile_steps=options.profile,
        )
    ]
    if options.gradients:
        some = next(iter(pictures.train.unbatch().batch(16).as_numpy_iterator()))
        callbacks.append(ki.GradientFlow(*some, run.tensorboard))

    def stop_if_bad(batch, logs):
        if pictures.bad.too_many:
            model.stop_training = True

    def report():
        pictures.bad.check()
        return {"bad_pictures": pictures.bad.report()}

    result = training.train(
        model,
        pictures.train,
        pictures.validation,
        run,
        epochs=options.epochs,
        config=config,
        callbacks=[
            *callbacks,
            keras.callbacks.LambdaCallback(on_train_batch_end=stop_if_bad),
        ],
        class_weight=data.balanced_class_weights(source.train.labels)
        if options.class_weights
        else None,
        report=report,
    )
    if pictures.bad:
        print(f"skipped {len(pictures.bad)} bad pictures: {pictures.bad.listed()}")
    print(
        f"best: {training.MONITOR} {result[training.MONITOR]:.4f} in epoch "
        f"{result['best_epoch']}, after {result['seconds']:.0f} s\n"
        f"wrote {run.model}"
    )


HPARAMS = (
    "architecture",
    "image_size",
    "width",
    "batch_norm",
    "heads",
    "aux_weight",
    "learning_rate",
    "batch_size",
    "epochs",
    "seed",
)


def _hparams(config: dict) -> dict:
    """The settings that runs are compared by in TensorBoard."""
    values = {name: config[name] for name in HPARAMS}
    return values | {"heads": " ".join(values["heads"]) or "none"}
