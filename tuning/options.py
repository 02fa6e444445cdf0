"""What a search can be told."""

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from keras_inception_cli.common import check_at_least
from keras_inception_cli.data_options import (
    DATA_HELP,
    add_augmentation_arguments,
    add_data_arguments,
)

MOST_HEADS = 3
FROM_RECIPE = ("epochs", "batch_size", "learning_rate", "batch_norm", "augment")
# what `train` is told to train the best setting as the search did
OF_TRAIN = (
    "recipe",
    "epochs",
    "batch_size",
    "learning_rate",
    "batch_norm",
    "augment",
    "mirror",
    "architecture",
    "image_size",
    "width",
    "seed",
    "max_bad_fraction",
    "data_dir",
    "cache",
)


def parse(arguments: Sequence[str], description: str) -> argparse.Namespace:
    """The options of a command line; `given` names those of the training."""
    parser = _parser(description)
    options = parser.parse_args(arguments)
    options.given = [
        name for name in OF_TRAIN if getattr(options, name) != parser.get_default(name)
    ]
    if options.directory is None:
        options.directory = Path("runs") / f"tuning-{Path(options.data).name}"
    return options


def check(options: argparse.Namespace) -> None:
    """Refuses numbers that are out of their range."""
    check_at_least(
        options, {"trials": 1, "executions": 1, "workers": 1, "most_heads": 1}
    )
    if options.most_heads > MOST_HEADS:
        raise ValueError(
            f"--most-heads must be at most {MOST_HEADS}. Received: {options.most_heads}"
        )
    for name in ("width", "learning_rate"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(
                f"--{name.replace('_', '-')} must be above 0. Received: {value}"
            )


def recipe(options: argparse.Namespace):
    """The recipe, with what is given beside it."""
    from keras_inception.training import RECIPES

    given = {
        name: getattr(options, name)
        for name in FROM_RECIPE
        if getattr(options, name) is not None
    }
    made = dataclasses.replace(RECIPES[options.recipe], **given)
    check_at_least(made, {"epochs": 1, "batch_size": 1})
    return made


def train_command(options: argparse.Namespace, best: Path) -> str:
    """What trains the best setting as the search did."""
    words = ["keras-inception", "train", str(options.data)]
    words += ["--hyperparameters", str(best)]
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
    search = parser.add_argument_group("the search")
    search.add_argument(
        "--trials",
        type=int,
        default=20,
        help="settings to try, the paper's and no heads included (default: 20); a "
        "larger number goes on with a search that has ended",
    )
    search.add_argument(
        "--tuner",
        choices=("bayesian", "hyperband", "random"),
        default="bayesian",
        help="(default: bayesian)",
    )
    search.add_argument(
        "--executions",
        type=int,
        default=1,
        metavar="SEEDS",
        help="seeds that each setting is trained with; their mean counts (default: 1)",
    )
    search.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes that train trials side by side (default: 1)",
    )
    search.add_argument(
        "--directory", type=Path, metavar="DIR", help="(default: runs/tuning-DATA)"
    )
    search.add_argument(
        "--overwrite", action="store_true", help="delete an earlier search in DIR"
    )
    search.add_argument("--seed", type=int, default=0, help="(default: 0)")
    space = parser.add_argument_group("what is searched")
    space.add_argument(
        "--places",
        nargs="+",
        metavar="ENDPOINT",
        help="where heads may hang (default: inception_3a to inception_5a)",
    )
    space.add_argument("--most-heads", type=int, default=3, help="(default: 3)")
    space.add_argument(
        "--tune-learning-rate",
        action="store_true",
        help="search the learning rate too, from a tenth to three times the recipe's",
    )
    how = parser.add_argument_group("how every trial is trained")
    how.add_argument(
        "--recipe",
        choices=("small", "paper", "caffe-quick"),
        default="small",
        help="(default: small)",
    )
    how.add_argument("--epochs", type=int, help="(small: 10)")
    how.add_argument("--batch-size", type=int, help="(small: 32)")
    how.add_argument("--learning-rate", type=float, help="at the start (small: 0.02)")
    how.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        help="batch normalisation in the network (small: on)",
    )
    how.add_argument(
        "--architecture",
        choices=("googlenet", "googlenet_small", "googlenet_torchvision"),
        help="(default: googlenet_small for pictures below 112 pixels, else googlenet)",
    )
    how.add_argument(
        "--image-size",
        type=int,
        help="side in pixels (default: 32 or 64 for small pictures, else 224)",
    )
    how.add_argument(
        "--width", type=float, default=1.0, help="times the filters (default: 1)"
    )
    pictures = parser.add_argument_group("the pictures")
    add_augmentation_arguments(pictures)
    add_data_arguments(pictures)
    return parser
