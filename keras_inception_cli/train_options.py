"""The options of `train`, as the command line declares them."""

import argparse
import contextlib
import re
from pathlib import Path

from keras_inception_cli.data_options import (
    DATA_HELP,
    add_augmentation_arguments,
    add_data_arguments,
)
from keras_inception_cli.head_options import add_head_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `train`.

    Options that are not typed are absent from the result: their values come from
    elsewhere.
    """
    parser.argument_default = argparse.SUPPRESS
    parser.set_defaults(
        name=None,
        runs=Path("runs"),
        overwrite=False,
        resume=False,
        config=None,
        hyperparameters=None,
        devices=None,
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help=DATA_HELP)
    run = parser.add_argument_group("the run")
    run.add_argument("--name", help="name of the run (default: the data's)")
    run.add_argument("--runs", type=Path, help="directory of all runs (default: runs)")
    run.add_argument(
        "--overwrite", action="store_true", help="replace an earlier run of this name"
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="continue the interrupted run --name after its last finished epoch, with "
        "its own settings",
    )
    run.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take the settings in another run's config.json; typed options win",
    )
    run.add_argument(
        "--hyperparameters",
        type=Path,
        metavar="FILE",
        help="take the heads and their loss weights in a search's best.json "
        "(tuning/README.md); typed options win",
    )
    run.add_argument(
        "--seed", type=int, help="of the splits, the order and the weights (default: 0)"
    )
    run.add_argument(
        "--devices",
        type=_devices,
        metavar="N",
        help="GPUs of this machine that share each batch, or 'all' (default: 1); for "
        "several machines see docs/several-devices.md",
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--recipe",
        help="paper, caffe-quick, small, finetune or modern: defaults of the options "
        "below, which show those of small (default: by the number and size of the "
        "pictures)",
    )
    training.add_argument("--epochs", type=int, help="(small: 10)")
    training.add_argument("--batch-size", type=int, help="(small: 32)")
    training.add_argument(
        "--patience",
        type=int,
        metavar="EPOCHS",
        help="end the run after this many epochs without a better val_main_accuracy",
    )
    training.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="TIME",
        help="as in 90s, 30m or 1h30m: train only as many epochs as fit, and plan the "
        "learning rate for those (default: none)",
    )
    training.add_argument(
        "--learning-rate",
        type=float,
        help="in the first step (small: 0.02, decayed to 0 by a cosine; modern: 0.05)",
    )
    training.add_argument(
        "--label-smoothing",
        type=float,
        metavar="FRACTION",
        help="part of each label that all classes share (small: 0, modern: 0.1)",
    )
    training.add_argument(
        "--clip-norm",
        type=float,
        help="largest norm of all gradients together (default: none)",
    )
    training.add_argument(
        "--accumulate",
        type=int,
        metavar="STEPS",
        help="steps whose gradients make one update (default: 1)",
    )
    training.add_argument(
        "--mixed-precision", choices=("float16", "bfloat16"), help="(default: none)"
    )
    training.add_argument(
        "--jit-compile",
        action=argparse.BooleanOptionalAction,
        help="compile with XLA (default: Keras decides)",
    )
    board = parser.add_argument_group("TensorBoard, in RUNS/NAME/tensorboard")
    board.add_argument(
        "--gradients",
        action="store_true",
        help="log each stage's gradient from each loss after each epoch",
    )
    board.add_argument(
        "--attribution",
        action="store_true",
        help="keep account of how far each loss moves the weights of each stage, and "
        "write attribution.csv and attribution.png; a step takes 1.75 times as long",
    )
    board.add_argument(
        "--profile",
        nargs=2,
        type=int,
        metavar=("FIRST", "LAST"),
        help="profile these training steps (the tab needs tensorboard-plugin-profile)",
    )
    pictures = parser.add_argument_group("pictures")
    add_augmentation_arguments(pictures)
    pictures.add_argument(
        "--class-weights",
        choices=("balanced",),
        help="give every class the same weight, however many pictures it has",
    )
    add_data_arguments(pictures, max_bad_fraction=argparse.SUPPRESS)
    network = parser.add_argument_group("network")
    network.add_argument(
        "--network",
        metavar="NAME|FILE.keras",
        help="a network of keras.applications such as mobilenet_v3_small, from "
        "ImageNet's weights unless --weights none; or a classifier saved by Keras that "
        "takes raw pixels, whose last layer is replaced for other classes (default: a "
        "GoogLeNet)",
    )
    network.add_argument(
        "--architecture",
        choices=(
            "googlenet",
            "googlenet_small",
            "googlenet_torchvision",
            "googlenet_slim",
        ),
        help="(default: googlenet_small for pictures below 112 pixels, else googlenet)",
    )
    network.add_argument(
        "--image-size",
        type=int,
        help="input size in pixels (default: 32 or 64 for small pictures, else 224)",
    )
    network.add_argument(
        "--width", type=float, help="multiplies the number of filters (default: 1)"
    )
    network.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        help="batch normalization, which the paper's network does not have (small: on)",
    )
    tuning = parser.add_argument_group("fine-tuning a trained network")
    tuning.add_argument(
        "--weights",
        metavar="FILE",
        help="start from this .keras file (from train or convert) or from 'imagenet'; "
        "the network is the file's; 'none' for random weights (default: imagenet for "
        "pictures of 48 pixels or more, if --recipe is left out)",
    )
    tuning.add_argument(
        "--freeze",
        metavar="STAGE",
        help="do not train this stage and those before it; inception_5b freezes the "
        "whole trunk",
    )
    tuning.add_argument(
        "--feature-copies",
        type=int,
        metavar="COPIES",
        help="compute a frozen trunk's features once, for this many augmented copies "
        "of each picture, and train on them; 0: compute them anew in every epoch "
        "(default: 4 if the whole trunk is frozen)",
    )
    tuning.add_argument(
        "--layer-decay",
        type=float,
        metavar="FACTOR",
        help="learning rate of each stage as a fraction of the next stage's (small: 1, "
        "finetune: 0.8)",
    )
    add_head_arguments(parser.add_argument_group("auxiliary heads"))


def run_path(options: argparse.Namespace, name: str | None = None) -> Path:
    """The run's directory: `--runs`, and `--name` or the data's name."""
    return options.runs / (options.name or name or Path(options.data).resolve().name)


def _devices(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a number of at least 1, or 'all'. Received: {text}"
        )
    return int(text)


def _seconds(text: str) -> float:
    """An argparse type: hours, minutes and seconds as in 1h30m."""
    form = r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?"
    with contextlib.suppress(ValueError):
        if text and (match := re.fullmatch(form, text)):
            hours, minutes, seconds = (float(number or 0) for number in match.groups())
            if total := hours * 3600 + minutes * 60 + seconds:
                return total
    raise argparse.ArgumentTypeError(
        f"takes a time as in 90s, 30m or 1h30m. Received: {text}"
    )
