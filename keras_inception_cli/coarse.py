"""The heads as `train` is told of them, and superclasses for some of them."""

import argparse
from pathlib import Path


def add_arguments(group) -> None:
    """Declares `--superclasses` and `--coarse-heads`."""
    group.add_argument(
        "--superclasses",
        type=Path,
        metavar="FILE",
        help="a CSV with the lines class,superclass: what --coarse-heads learn",
    )
    group.add_argument(
        "--coarse-heads",
        nargs="+",
        default=[],
        metavar="HEAD",
        help="heads that learn the superclasses, for example aux_4a",
    )


def heads(options: argparse.Namespace, class_names: list[str], batch_norm: bool):
    """The heads of `--heads`, some of them coarse, built as the options say.

    They are names where nothing is said of how they are built.

    Raises:
        ValueError: If one of the two options is given without the other, or names no
            head.
    """
    from keras_inception import AuxiliaryHead, read_superclasses

    if bool(options.coarse_heads) != bool(options.superclasses):
        raise ValueError(
            "--superclasses FILE and --coarse-heads HEAD belong together: the classes "
            "to learn, and the heads that learn them."
        )
    names = {at: AuxiliaryHead(at).name for at in options.heads}
    unknown = [name for name in options.coarse_heads if name not in names.values()]
    if unknown:
        raise ValueError(
            f"--coarse-heads names no head: {', '.join(unknown)}. The heads are: "
            f"{', '.join(names.values()) or 'none'}"
        )
    superclasses = None
    if options.coarse_heads:
        superclasses = read_superclasses(options.superclasses, class_names)
    if options.head_batch_norm is not None:
        batch_norm = options.head_batch_norm
    as_usual = (options.head_dropout, options.head_width) == (0.7, 1.0)
    as_usual = as_usual and options.head_batch_norm is None
    return [
        at
        if as_usual and name not in options.coarse_heads
        else AuxiliaryHead(
            at,
            dropout=options.head_dropout,
            batch_norm=batch_norm,
            superclasses=superclasses if name in options.coarse_heads else None,
        ).widened(options.head_width)
        for at, name in names.items()
    ]


def listed(model) -> str:
    """A model's heads for people, with what the coarse ones tell apart."""
    known = model.output_class_names
    return ", ".join(
        f"{name} ({', '.join(known[name])})" if known[name] != known["main"] else name
        for name in model.heads
    )
