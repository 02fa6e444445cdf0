"""Options for the auxiliary heads, and reading those that a search found.

Heads are named by endpoint (`inception_4a`) or by output (`aux_4a`).
"""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
    """`--aux-schedule` as one name for every head, or a dict by head."""
    from keras_inception.training.auxiliary_schedule import SCHEDULES

    if isinstance(words, Mapping):
        return dict(words)
    words = [words] if isinstance(words, str) else list(words)
    named = dict(word.split("=", 1) for word in words if "=" in word)
    for_all = [word for word in words if "=" not in word]
    names = set(named.values()) or set(for_all)
    if len(for_all) + bool(named) != 1 or not names <= set(SCHEDULES):
        raise ValueError(
            "--aux-schedule takes one schedule for every head, or HEAD=SCHEDULE for "
            f"some; a schedule is one of {', '.join(SCHEDULES)}. Received: "
            f"{' '.join(words)}"
        )
    return named or for_all[0]


def read_search_result(file: Path) -> dict[str, Any]:
    """The options in a search's best.json."""
    from keras_inception.files import read_json

    content = read_json(file)
    found = content.get("hyperparameters") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found.keys() <= set(SEARCHED):
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


def by_output(values: Mapping[str, Value], endpoints: Iterable[str]) -> dict:
    """Values by head, named by endpoint or output, as values by output."""
    from keras_inception import AuxiliaryHead
    from keras_inception.supervision import output_name

    outputs = [AuxiliaryHead(endpoint).name for endpoint in endpoints]
    return {output_name(head, outputs): value for head, value in values.items()}


def describe_heads(model: "DeeplySupervised") -> str:
    """A model's heads for people, coarse ones with their superclasses."""
    names = model.output_class_names
    described = [
        output
        if names[output] == names["main"]
        else f"{output} ({', '.join(names[output] or ())})"
        for output in model.heads
    ]
    return ", ".join(described) or "none"
