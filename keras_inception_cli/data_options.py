"""DATA on the command line: its options, finding it, and its classes."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from keras_inception.data import Data, Listing, Source

DATA_HELP = (
    "'digits' (embedded handwritten digits); a folder with one folder of pictures per "
    "class, or with train/, val/ and test/ of that form; FILE.csv or DIR:FILE.csv with "
    "the columns path and label; or tfds:NAME[:VERSION] (TensorFlow Datasets)"
)
MOST_NAMED = 3


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
    parser.add_argument(
        "--drop-duplicates",
        action="store_true",
        help="leave out training files that are copies of validation or test files",
    )


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


def find_data(
    options: Any,
    spec: "str | Listing | None" = None,
    *,
    max_bad_fraction: float | None = None,
    **arguments: Any,
) -> "Source":
    """Finds the `data.Source` that DATA names and prints what it leaves out.

    Args:
        options: The parsed options of `add_data_arguments`, with `data` and `seed`.
        spec: Replaces `options.data`.
        max_bad_fraction: Replaces the option; nothing is printed then.
        arguments: More of `data.find`'s.
    """
    from keras_inception import data

    source = data.find(
        options.data if spec is None else spec,
        seed=options.seed or 0,
        max_bad_fraction=(
            options.max_bad_fraction if max_bad_fraction is None else max_bad_fraction
        ),
        data_dir=options.data_dir,
        cache=options.cache,
        drop_duplicates=options.drop_duplicates,
        log=print,
        **arguments,
    )
    if max_bad_fraction is None:
        for line in describe_left_out(source, options.drop_duplicates):
            print(line)
    return source


def list_known(data: str, class_names: Sequence[str] | None) -> "Listing | None":
    """Lists the files of DATA, which may lack classes of `class_names`.

    `None` if DATA does not consist of files.
    """
    from keras_inception.data import is_files, list_files

    return list_files(data, class_names) if is_files(data) else None


def describe_data(source: "Source") -> str:
    """Name, number of pictures in each split and of classes, in one line."""
    names = {"train": "training"}
    counts = [
        f"{len(split)} {names.get(name, name)}"
        for name, split in source.by_split.items()
    ]
    listed = " and ".join(
        [", ".join(counts[:-1]), counts[-1]] if counts[1:] else counts
    )
    return f"{source.name}: {listed} pictures, {len(source.class_names)} classes"


def describe_left_out(source: "Source", dropped: bool = False) -> list[str]:
    """A line for each kind of file that is not learned from, or doubtful."""
    lines = []
    if source.bad:
        lines.append(f"skipping {len(source.bad)} bad pictures: {source.bad.listed()}")
    if source.passed_over:
        lines.append(f"passing over files: {source.passed_over.describe()}")
    copies, conflicts = vars(source.duplicates).values()
    if copies:
        advice = "left out" if dropped else "--drop-duplicates leaves them out"
        lines.append(
            f"{len(copies)} training pictures are copies of validation or test "
            f"pictures ({advice}): {_pairs(copies)}"
        )
    if conflicts:
        lines.append(
            f"{len(conflicts)} pictures are in two classes: {_pairs(conflicts)}"
        )
    return lines


def _pairs(pairs: list[tuple[str, str]]) -> str:
    from keras_inception.text import list_names

    return list_names([f"{one} = {other}" for one, other in pairs], MOST_NAMED)


def check_class_names(model: "keras.Model", data: "Data | Source") -> None:
    """Raises a `ValueError` if a model and data have different classes."""
    from keras_inception.outputs import main_output
    from keras_inception.text import list_names, normal_form

    known = getattr(model, "class_names", None)
    classes = main_output(model).shape[-1]
    if known is not None and [*map(normal_form, known)] != list(data.class_names):
        raise ValueError(
            f"The model's classes ({list_names(known, 5)}) differ from the data's "
            f"({list_names(data.class_names, 5)})."
        )
    if classes != len(data.class_names):
        raise ValueError(
            f"The model has {classes} classes, the data {len(data.class_names)}."
        )
