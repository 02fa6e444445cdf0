"""What exits are made of: which outputs, which numbers, which data."""

from collections.abc import Iterator, Mapping

import keras
import numpy as np

from keras_inception.graph import layer_of
from keras_inception.outputs import MAIN, Output, output_activation


def puts_out_logits(model: keras.Model) -> bool:
    """Whether a model's outputs are logits."""
    return output_activation(model.output[MAIN]) == "linear"


def batches(dataset, batch_size: int = 256) -> Iterator[tuple]:
    """Batches of `(images, labels)` from a pair of arrays or from batches."""
    if not (isinstance(dataset, tuple) and len(dataset) == 2):
        for images, labels, *_ in dataset:
            yield images, labels[MAIN] if isinstance(labels, dict) else labels
        return
    images, labels = dataset
    for start in range(0, len(labels), batch_size):
        batch = slice(start, start + batch_size)
        yield images[batch], labels[batch]


def check_exits(model: keras.Model, names) -> None:
    """Refuses a model without named outputs, and names that are no exits."""
    outputs = model.output
    if not isinstance(outputs, dict) or MAIN not in outputs or len(model.inputs) != 1:
        raise ValueError(
            "EarlyExit needs a model with one input whose outputs are a dict with "
            f"{MAIN!r} and heads, as GoogLeNet() and attach_auxiliary() make. "
            f"Received {len(model.inputs)} input(s) and the outputs: {outputs}"
        )
    heads = [name for name in outputs if name != MAIN]
    unknown = [name for name in names if name not in heads]
    if unknown:
        raise ValueError(
            f"There is no head {', '.join(map(repr, unknown))} to exit at. The heads "
            f"are: {', '.join(heads) or 'none'}"
        )
    for name in names:
        if is_coarse(model, name):
            raise ValueError(
                f"{name!r} can't be an exit: it learnt superclasses, so its answers "
                "are coarser than main's."
            )


def is_coarse(model: keras.Model, name: str) -> bool:
    """Whether an output answers in superclasses."""
    layer = layer_of(model.output[name])
    return isinstance(layer, Output) and layer.superclasses is not None


def check_numbers(
    kind: str,
    numbers: Mapping[str, float],
    *,
    least: float = -np.inf,
    above: float = -np.inf,
) -> None:
    """Refuses what is no number or out of its range, NaN as well."""
    for name, number in numbers.items():
        try:
            good = float(number) >= least and float(number) > above
        except (TypeError, ValueError):
            good = False
        if not good:
            bound = f"at least {least}" if least > above else f"above {above}"
            raise ValueError(
                f"The {kind} of {name!r} must be a number {bound}. Received: {number!r}"
            )
