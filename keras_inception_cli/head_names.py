"""The heads as options name them: by endpoint (`inception_4a`) or output (`aux_4a`)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

from keras_inception import ARCHITECTURES, AuxiliaryHead, DeeplySupervised
from keras_inception.files import read_json
from keras_inception.schema import Range
from keras_inception.supervision import output_name
from keras_inception.text import list_names
from keras_inception.training.auxiliary_schedule import SCHEDULES

Value = TypeVar("Value")

NETWORK = ("architecture", "width", "batch_norm")  # options that describe a GoogLeNet


class SearchedOptions(TypedDict, total=False):
    """The options that a search's best.json may set."""

    heads: list[str]
    aux_weight: float | dict[str, float]
    aux_schedule: str | list[str] | dict[str, str]
    head_dropout: Annotated[float, Range(0, 1)]
    head_width: Annotated[float, Range(0, 100)]
    head_batch_norm: bool
    learning_rate: Annotated[float, Range(0, 1000)]


class SearchResult(TypedDict):
    """A search's best.json, as far as `train` reads it."""

    hyperparameters: SearchedOptions


def parse_schedule(
    words: str | Iterable[str] | Mapping[str, str],
) -> str | dict[str, str]:
    """`--aux-schedule` as one name for every head, or a dict by head."""
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
    fault = "is not the best.json of a search, as python -m tuning.search writes it"
    found: dict[str, Any] = read_json(file, SearchResult, fault)["hyperparameters"]
    if unknown := found.keys() - SearchedOptions.__annotations__:
        raise ValueError(
            f"{file} {fault}: hyperparameters names {list_names(sorted(unknown))}; "
            f"expected some of {', '.join(SearchedOptions.__annotations__)}."
        )
    return found


def endpoint_of(head: str) -> str:
    """The endpoint that an option names, as itself or as its output.

    A name that is neither is returned as it is; building the network reports it.
    """
    endpoints = {name for table in ARCHITECTURES.values() for name in table.rows}
    if head in endpoints or not head.startswith("aux_"):
        return head
    name = head.removeprefix("aux_")
    return next((e for e in (name, f"inception_{name}") if e in endpoints), head)


def number_in(heads: Sequence[str]) -> int | None:
    """The number of heads, if that is what `--heads` names; else `None`."""
    return int(heads[0]) if len(heads) == 1 and heads[0].isdecimal() else None


def by_output(values: Mapping[str, Value], endpoints: Iterable[str]) -> dict:
    """Values by head, named by endpoint or output, as values by output."""
    outputs = [AuxiliaryHead(endpoint).name for endpoint in endpoints]
    return {output_name(head, outputs): value for head, value in values.items()}


def describe_heads(model: DeeplySupervised) -> str:
    """A model's heads for people, coarse ones with their superclasses."""
    names = model.output_class_names
    described = [
        output
        if names[output] == names["main"]
        else f"{output} ({', '.join(names[output] or ())})"
        for output in model.heads
    ]
    return ", ".join(described) or "none"


def without_other_network(
    found: dict[str, Any], typed: Mapping[str, Any]
) -> dict[str, Any]:
    """Drops a file's settings for its network if another network is typed."""
    if typed.get("network", found.get("network")) == found.get("network"):
        return found
    dropped = (*NETWORK, "weights", "image_size", "freeze", "heads", "coarse_heads")
    return {
        name: value
        for name, value in found.items()
        if name not in (*dropped, "superclasses") and not isinstance(value, Mapping)
    }


def without_other_heads(
    found: dict[str, Any], typed: Mapping[str, Any]
) -> dict[str, Any]:
    """Drops a file's settings for single heads if other heads are typed."""
    if "heads" in typed and "heads" in found:
        own, others = (
            [endpoint_of(head) for head in choices["heads"]]
            for choices in (found, typed)
        )
        if own != others:
            return {n: v for n, v in found.items() if not isinstance(v, Mapping)}
    return found
