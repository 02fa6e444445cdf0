"""The command line of `python -m tuning.search`."""

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli.common import check_at_least
from keras_inception_cli.data_options import (
    DATA_HELP,
    add_augmentation_arguments,
    add_data_arguments,
)

if TYPE_CHECKING:  # importing Keras takes seconds, for which --help should not wait
    from keras_inception.training import Recipe

MOST_HEADS = 3
RECIPE_OPTIONS = ("epochs", "batch_size", "learning_rate", "batch_norm", "augment")
# The options that `train` needs to train the best setting as the search did.
TRAIN_OPTIONS = (
    *("recipe", *RECIPE_OPTIONS, "mirror", "network", "weights", "architecture"),
    *("image_size", "width"),
    *("seed", "max_bad_fraction", "data_dir", "cache", "drop_duplicates"),
)


def parse(arguments: Sequence[str], description: str) -> argparse.Namespace:
    """Parses a command line; `given` lists the options for `train` that it names."""
    parser = _parser(description)
    options = parser.parse_args(arguments)
    default = parser.get_default
    options.given = [n for n in TRAIN_OPTIONS if getattr(options, n) != default(n)]
    if options.directory is None:
        options.directory = Path("runs") / f"tuning-{Path(options.data).name}"
    return options


def check(options: argparse.Namespace) -> None:
    """Raises a `ValueError` for numbers out of range."""
    counts = ("trials", "executions", "workers", "most_heads")
    check_at_least(options, dict.fromkeys(counts, 1))
    if options.most_heads > MOST_HEADS:
        raise ValueError(
            f"--most-heads must be at most {MOST_HEADS}. Received: {options.most_heads}"
        )
    if options.network:
        for name, default in (
            ("architecture", None),
            ("width", 1),
            ("batch_norm", None),
        ):
            if getattr(options, name) != default:
                raise ValueError(
                    f"--network {options.network} brings its own network: leave out "
                    f"--{name.replace('_', '-')}."
                )
    elif options.weights:
        raise ValueError("--weights needs --network, the network that they are for.")
    for name in ("width", "learning_rate"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(
                f"--{name.replace('_', '-')} must be above 0. Received: {value}"
            )


def recipe(options: argparse.Namespace) -> "Recipe":
    """The recipe, with the options that replace parts of it."""
    from keras_inception.training import RECIPES

    values = {name: getattr(options, name) for name in RECIPE_OPTIONS}
    given = {name: value for name, value in values.items() if value is not None}
    check_at_least(options, dict.fromkeys({"epochs", "batch_size"} & set(given), 1))
    return dataclasses.replace(RECIPES[options.recipe], **given)


def train_command(options: argparse.Namespace, best: Path) -> str:
    """The command that trains the best setting as the search did."""
    words = ["keras-inception", "train", options.data, "--hyperparameters", str(best)]
    for name in options.given:
        value, flag = getattr(options, name), name.replace("_", "-")
        if name == "learning_rate" and options.tune_learning_rate:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tuning.search",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    add = parser.add_argument_group("the search").add_argument
    add(
        "--trials",
        type=int,
        default=20,
        help="number of settings, the paper's and no heads included (default: 20); a "
        "larger number extends a finished search",
    )
    add(
        "--tuner",
        choices=("bayesian", "hyperband", "random"),
        default="bayesian",
        help="how settings are chosen (default: bayesian)",
    )
    add(
        "--executions",
        type=int,
        default=1,
        metavar="SEEDS",
        help="trainings of each setting, each with its own seed; settings are compared "
        "by the mean accuracy (default: 1)",
    )
    add(
        "--workers",
        type=int,
        default=1,
        help="parallel training processes (default: 1)",
    )
    add("--directory", type=Path, metavar="DIR", help="(default: runs/tuning-DATA)")
    add("--overwrite", action="store_true", help="delete an earlier search in DIR")
    add(
        "--seed",
        type=int,
        default=0,
        help="seed of the draws, of the validation split and of each setting's first "
        "execution (default: 0)",
    )
    add = parser.add_argument_group("the settings").add_argument
    add(
        "--endpoints",
        "--places",
        nargs="+",
        metavar="ENDPOINT",
        help="endpoints that may have a head (default: inception_3a to inception_5a, "
        "or 8 that divide the computation of --network)",
    )
    add(
        "--most-heads", type=int, default=3, help="largest number of heads (default: 3)"
    )
    add(
        "--tune-learning-rate",
        action="store_true",
        help="search the learning rate too, from a tenth to three times the recipe's",
    )
    group = "the training, the same in every trial"
    add = parser.add_argument_group(group).add_argument
    recipes = ("small", "paper", "caffe-quick")
    add("--recipe", choices=recipes, default="small", help="(default: small)")
    add("--epochs", type=int, help="(small: 10)")
    add("--batch-size", type=int, help="(small: 32)")
    add("--learning-rate", type=float, help="at first (small: 0.02)")
    switch = argparse.BooleanOptionalAction
    add("--batch-norm", action=switch, help="batch normalization (small: on)")
    add(
        "--network",
        metavar="NAME|FILE.keras",
        help="a network of keras.applications, or a classifier saved by Keras, as in "
        "keras-inception train (default: a GoogLeNet)",
    )
    add(
        "--weights",
        choices=("imagenet", "none"),
        help="weights that --network NAME starts from (default: imagenet if available)",
    )
    add(
        "--architecture",
        choices=("googlenet", "googlenet_small", "googlenet_torchvision"),
        help="(default: googlenet_small for pictures below 112 pixels, else googlenet)",
    )
    add(
        "--image-size",
        type=int,
        help="input size in pixels (default: 32 or 64 for small pictures, else 224)",
    )
    add("--width", type=float, default=1.0, help="multiplies the filters (default: 1)")
    pictures = parser.add_argument_group("the pictures")
    add_augmentation_arguments(pictures)
    add_data_arguments(pictures)
    return parser
