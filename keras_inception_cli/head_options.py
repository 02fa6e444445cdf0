"""Options for the auxiliary heads, and reading those that a search found.

Heads are named by endpoint (`inception_4a`) or by output (`aux_4a`).
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from keras_inception import DeeplySupervised

Value = TypeVar("Value")

# The options that a search's best.json may set.
SEARCHED = (
    "heads",
    "aux_weight",
    "aux_schedule",
    "head_dropout",
    "head_width",
    "head_batch_norm",
    "learning_rate",
)


def add_arguments(group: argparse._ActionsContainer) -> None:
    """Declares where the heads are, how they are built, and what they learn."""
    group.add_argument(
        "--heads",
        nargs="*",
        metavar="HEAD",
        help="endpoints of the heads; nothing after --heads for none "
        "(default: inception_4a inception_4d)",
    )
    group.add_argument(
        "--aux-weight",
        type=parse_weights,
        metavar="WEIGHT",
        help="loss weight of every head, or one for each, as in aux_4a=0.3,aux_4d=0.1 "
        "(small: 0.3)",
    )
    group.add_argument(
        "--aux-schedule",
        nargs="+",
        metavar="SCHEDULE",
        help="constant, linear or cosine: how the loss weights fall to 0 over the run; "
        "or for some heads, as in aux_4a=linear (small: constant)",
    )
    group.add_argument(
        "--head-dropout",
        type=float,
        metavar="FRACTION",
        help="dropout before each head's last layer (default: 0.7)",
    )
    group.add_argument(
        "--head-width",
        type=float,
        help="multiplies the filters and units of each head (default: 1)",
    )
    group.add_argument(
        "--head-batch-norm",
        action=argparse.BooleanOptionalAction,
        help="batch normalization in the heads (default: as in the network)",
    )
    group.add_argument(
        "--superclasses",
        metavar="FILE",
        help="a CSV with lines class,superclass for --coarse-heads",
    )
    group.add_argument(
        "--coarse-heads",
        nargs="+",
        metavar="HEAD",
        help="heads that learn the superclasses instead of the classes",
    )


def parse_weights(text: str) -> float | dict[str, float]:
    """An argparse type: one number, or HEAD=NUMBER,HEAD=NUMBER as a dict."""
    try:
        if "=" not in text:
            return float(text)
        pairs = (pair.split("=", 1) for pair in text.split(","))
        return {head: float(weight) for head, weight in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(
            "takes one number for every head, or HEAD=NUMBER,HEAD=NUMBER. Received: "
            f"{text}"
        ) from None


def parse_schedule(
    words: str | Iterable[str] | Mapping[str, str],
) -> str | dict[str, str]:
    """`--aux-schedule` as one name for every head, or a dict by head.

    Raises:
        ValueError: If it is neither.
    """
    from keras_inception.training.auxiliary_schedule import SCHEDULES

    if isinstance(words, Mapping):
        return dict(words)
    words = [words] if isinstance(words, str) else list(words)
    named = dict(word.split("=", 1) for word in words if "=" in word)
    for_all = [word for word in words if "=" not in word]
    if len(for_all) + bool(named) != 1:
        raise ValueError(
            "--aux-schedule takes one schedule for every head, or HEAD=SCHEDULE for "
            f"some. Received: {' '.join(words)}"
        )
    unknown = set(named.values() if named else for_all) - set(SCHEDULES)
    if unknown:
        raise ValueError(
            f"A schedule of --aux-schedule is one of {', '.join(SCHEDULES)}. Received: "
            f"{', '.join(sorted(unknown))}"
        )
    return named or for_all[0]


def read_search_result(file: Path) -> dict:
    """The options in a search's best.json.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a search's best.json.
    """
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {file}") from None
    except ValueError:
        content = None
    found = content.get("hyperparameters") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not set(found) <= set(SEARCHED):
        raise ValueError(
            f"{file} is not the best.json of a search, as python -m tuning.search "
            "writes it."
        )
    return found


def endpoint_of(head: str) -> str:
    """The endpoint that an option names, as itself or as its output.

    A name that is neither is returned as it is; building the network reports it.
    """
    from keras_inception import ARCHITECTURES

    endpoints = {name for table in ARCHITECTURES.values() for name in table.rows}
    if head in endpoints or not head.startswith("aux_"):
        return head
    name = head.removeprefix("aux_")
    return next((e for e in (name, f"inception_{name}") if e in endpoints), head)


def output_of(head: str) -> str:
    """The output of the head that an option names, by endpoint or by output."""
    from keras_inception import AuxiliaryHead

    return str(AuxiliaryHead(endpoint_of(head)).name)


def by_output(option: str, values: Mapping[str, Value], heads: Iterable[str]) -> dict:
    """Values by head, whichever way it is named, as values by output.

    Raises:
        ValueError: If a name is not one of `heads` (endpoints).
    """
    outputs = {output_of(head): head for head in heads}
    unknown = [name for name in values if output_of(name) not in outputs]
    if unknown:
        known = ", ".join(f"{name} (at {head})" for name, head in outputs.items())
        raise ValueError(
            f"{option} names no head: {', '.join(unknown)}. The heads are: "
            f"{known or 'none'}"
        )
    return {output_of(name): value for name, value in values.items()}


def describe_heads(model: "DeeplySupervised") -> str:
    """A model's heads for people, coarse ones with their superclasses."""
    names = model.output_class_names
    return (
        ", ".join(
            f"{output} ({', '.join(names[output] or ())})"
            if names[output] != names["main"]
            else output
            for output in model.heads
        )
        or "none"
    )
