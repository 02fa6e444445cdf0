"""What a search (`tuning/`) finds of the heads: `train`'s options for it, its file."""

import argparse
import json
from pathlib import Path

# What a search's best.json decides.
OF_A_SEARCH = (
    "heads",
    "aux_weight",
    "aux_schedule",
    "head_dropout",
    "head_width",
    "head_batch_norm",
    "learning_rate",
)


def add_arguments(group) -> None:
    """Declares the heads' weights, and how the heads are built."""
    group.add_argument(
        "--aux-weight",
        type=_weights,
        metavar="WEIGHT",
        help="of each head's loss; or for every head its own, as in "
        "aux_4a=0.3,aux_4d=0.1 (small: 0.3)",
    )
    group.add_argument(
        "--head-dropout",
        type=float,
        default=0.7,
        metavar="SHARE",
        help="dropped in each head (default: 0.7)",
    )
    group.add_argument(
        "--head-width",
        type=float,
        default=1.0,
        help="times the filters and units of each head (default: 1)",
    )
    group.add_argument(
        "--head-batch-norm",
        action=argparse.BooleanOptionalAction,
        help="batch normalisation in the heads (default: as the network)",
    )


def aux_weights(options: argparse.Namespace, heads: list[str]) -> dict[str, float]:
    """`--aux-weight` for every head by name."""
    if isinstance(options.aux_weight, dict):
        return options.aux_weight
    return dict.fromkeys(heads, options.aux_weight)


def take(file: Path, options: argparse.Namespace) -> None:
    """What a search found, where the command line does not say otherwise."""
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {file}") from None
    except ValueError:
        found = None
    chosen = found.get("hyperparameters") if isinstance(found, dict) else None
    if not isinstance(chosen, dict) or not set(chosen) <= set(OF_A_SEARCH):
        raise ValueError(
            f"{file} is no best.json of a search, as python -m tuning.search writes."
        )
    # its weights belong to its own heads
    own_heads = options.heads is None or options.heads == chosen.get("heads")
    for option, value in chosen.items():
        if getattr(options, option) is None and (own_heads or option != "aux_weight"):
            setattr(options, option, value)


def _weights(text: str) -> float | dict[str, float]:
    """A number for all heads, or HEAD=NUMBER for each."""
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
