"""DATA on the command line: its options, finding it, and its classes."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from keras_inception.data import Data, Source

DATA_HELP = (
    "'digits' (embedded handwritten digits); a folder with one folder of pictures per "
    "class, or with train/ and val/ of that form; or tfds:NAME[:VERSION] (TensorFlow "
    "Datasets)"
)


def add_data_arguments(
    parser: argparse._ActionsContainer, max_bad_fraction: float | str = 0.01
) -> None:
    """Declares how DATA is found, for the commands that take it.

    Args:
        parser: The command's parser, or a group of it.
        max_bad_fraction: Default of that option; `argparse.SUPPRESS` for none.
    """
    parser.add_argument(
        "--max-bad-fraction",
        type=float,
        default=max_bad_fraction,
        metavar="FRACTION",
        help="largest fraction of files that may be damaged or not pictures; they are "
        "skipped and named (default: 0.01)",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where TensorFlow Datasets keeps records (default: ~/tensorflow_datasets)",
    )
    parser.add_argument(
        "--cache",
        action="store_true",
        help="write a folder's pictures as records into --data-dir once, then read "
        "those",
    )


def add_seed_argument(parser: argparse._ActionsContainer) -> None:
    """Declares `--seed` for commands that need a run's validation split."""
    parser.add_argument(
        "--seed",
        type=int,
        help="seed of the validation split (default: that of MODEL's run, else 0)",
    )


def settle_seed(options: argparse.Namespace, model_path: str) -> None:
    """Without `--seed`, takes the seed of the run that the model belongs to, else 0."""
    if options.seed is None:
        from keras_inception.training import RunDirectory

        run = RunDirectory.of_model(model_path)
        options.seed = run.read_config().seed if run else 0


def add_augmentation_arguments(parser: argparse._ActionsContainer) -> None:
    """Declares the augmentation options, for the commands that show or train."""
    parser.add_argument(
        "--augment",
        choices=("none", "basic", "paper"),
        help="augmentation of training pictures: none; basic: shift and mirror; paper: "
        "crops of 8 to 100 %% of the area, color jitter and mirror (default: basic "
        "below 112 pixels, else paper)",
    )
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="whether basic and paper mirror (default: yes, but not digits)",
    )


def find_data(options: Any, *, max_bad_fraction: float | None = None) -> "Source":
    """Finds the `data.Source` that DATA names and prints the bad files it skips.

    Args:
        options: The parsed options of `add_data_arguments`, with `data` and `seed`.
        max_bad_fraction: Replaces the option; bad files are not printed then.
    """
    from keras_inception import data

    source = data.find(
        options.data,
        seed=options.seed,
        max_bad_fraction=(
            options.max_bad_fraction if max_bad_fraction is None else max_bad_fraction
        ),
        data_dir=options.data_dir,
        cache=options.cache,
        log=print,
    )
    if max_bad_fraction is None and source.bad:
        print(f"skipping {len(source.bad)} bad pictures: {source.bad.listed()}")
    return source


def describe_data(source: "Source") -> str:
    """Name, number of pictures and classes in one line."""
    return (
        f"{source.name}: {len(source.train)} training and {len(source.validation)} "
        f"validation pictures, {len(source.class_names)} classes"
    )


def check_class_names(model: "keras.Model", data: "Data | Source") -> None:
    """Raises a `ValueError` if a model and data have different classes."""
    from keras_inception.outputs import main_of
    from keras_inception.text import list_names

    known = getattr(model, "class_names", None)
    classes = main_of(model.output).shape[-1]
    if known is not None and list(known) != list(data.class_names):
        raise ValueError(
            f"The model's classes ({list_names(known, 5)}) differ from the data's "
            f"({list_names(data.class_names, 5)})."
        )
    if classes != len(data.class_names):
        raise ValueError(
            f"The model has {classes} classes, the data {len(data.class_names)}."
        )
