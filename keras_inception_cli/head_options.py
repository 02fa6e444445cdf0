"""The options of `train` for auxiliary heads, as the command line declares them."""

import argparse


def add_head_arguments(group: argparse._ActionsContainer) -> None:
    """Declares where the heads are, how they are built, and what they learn."""
    group.add_argument(
        "--heads",
        nargs="*",
        metavar="HEAD",
        help="endpoints of the heads, or with --network their number; nothing after "
        "--heads for none (default: inception_4a inception_4d; with --network 2)",
    )
    group.add_argument(
        "--aux-weight",
        type=_weights,
        metavar="WEIGHT",
        help="loss weight of every head, or one for each, as in aux_4a=0.3,aux_4d=0.1 "
        "(small: 0.3)",
    )
    group.add_argument(
        "--aux-schedule",
        nargs="+",
        metavar="SCHEDULE",
        help="constant, linear or cosine: how the loss weights change over the run; "
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
        "--distillation",
        type=float,
        metavar="WEIGHT",
        help="let the heads learn main's answers too, with this weight relative to the "
        "labels (default: 0)",
    )
    group.add_argument(
        "--temperature",
        type=float,
        help="number that --distillation divides the logits by (default: 3)",
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


def _weights(text: str) -> float | dict[str, float]:
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
