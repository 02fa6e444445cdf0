"""Measure a trained model's outputs on held-out pictures."""

import argparse
import json
from pathlib import Path

from keras_inception_cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `evaluate` takes."""
    parser.add_argument("model", metavar="MODEL", help="a .keras file")
    parser.add_argument("data", metavar="DATA", help=common.DATA_HELP)
    parser.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the held-out share (default: 0)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures there as well"
    )


def run(options: argparse.Namespace) -> None:
    """Prints loss and accuracy of every output on the validation pictures."""
    common.check_at_least(options, {"batch_size": 1})
    with common.quiet_start():
        from keras_inception import data

    model = common.load_model(options.model)
    if not isinstance(model.output, dict):
        raise ValueError(f"{options.model} has no named outputs to evaluate.")
    pictures = data.load(
        options.data,
        common.picture_side(model),
        options.batch_size,
        seed=options.seed,
    )
    common.check_class_names(model, pictures)
    if not model.compiled:
        model.compile()
    figures = model.evaluate(pictures.validation, verbose=0, return_dict=True)
    print(f"{len(pictures.source.validation)} held-out pictures")
    print("output      loss  accuracy")
    for name in model.output:
        loss, accuracy = figures[f"{name}_loss"], figures[f"{name}_accuracy"]
        print(f"{name:<8} {loss:>7.4f}    {accuracy:.4f}{_among(model, name)}")
    if options.json:
        figures = {name: float(value) for name, value in figures.items()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _among(model, output: str) -> str:
    """What a head tells apart, if that is not what main does."""
    names = getattr(model, "output_class_names", {})
    if names.get(output) == names.get("main"):
        return ""
    return f"  among {', '.join(names[output])}"
