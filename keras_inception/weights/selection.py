"""Selects a network's tensors from a file: wrappers, averages, classifiers, heads."""

import fnmatch
import logging
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from keras_inception.architecture import AUXILIARY_ENDPOINTS
from keras_inception.outputs import MAIN
from keras_inception.supervision import output_name
from keras_inception.text import check_list, list_names

FEATURES = 1024  # what the classifiers read, those of the heads included
# Words in the names of averaged weights: `model_ema`, `ExponentialMovingAverage_1`.
AVERAGE = re.compile(
    "(^|_)(ema|swa|avg|average[ds]?|(exponential)?movingaverage)(_|$)", re.IGNORECASE
)

logger = logging.getLogger("keras_inception")
Tensor = TypeVar("Tensor")


def is_average(scope: str) -> bool:
    """Whether a component of a tensor's name says that it is averaged weights."""
    return AVERAGE.search(scope) is not None


def scopes_in(
    names: Iterable[str], landmarks: Sequence[str], separator: str
) -> list[str]:
    """Lists the scopes that hold a network, in order: `""`, or `"model."`.

    `landmarks` are tensors that the network has, whatever its classifier.
    """
    return list(
        dict.fromkeys(
            name.removesuffix(landmark)
            for name in names
            for landmark in landmarks
            if f"{separator}{name}".endswith(f"{separator}{landmark}")
        )
    )


def without(
    tensors: Mapping[str, Tensor], ignore: Sequence[str], source: str
) -> dict[str, Tensor]:
    """Leaves out the tensors that `ignore` names, by name, scope or pattern."""
    kept = dict(tensors)
    for pattern in [ignore] if isinstance(ignore, str) else ignore:
        below = tuple(f"{pattern}{separator}" for separator in "./[")
        ignored = [n for n in tensors if n == pattern or n.startswith(below)]
        ignored += fnmatch.filter(tensors, pattern)
        if not ignored:
            raise ValueError(
                f"{source} has no tensor {pattern!r} to ignore. It has: "
                f"{list_names(tensors)}"
            )
        kept = {name: x for name, x in kept.items() if name not in {*ignored}}
    return kept


def log_left_out(source: str, names: Sequence[str], reason: str) -> None:
    """Logs which tensors of the file are not part of the network."""
    if names:
        logger.info("%s: left out %s: %s", source, reason, list_names(names, 3))


def dense_layers(
    shapes: Mapping[str, Sequence[int]], known: Container[str], endings: tuple[str, str]
) -> list[str]:
    """Lists the layers that classify `FEATURES` numbers and are not `known`.

    Such a layer has a kernel and a bias, whose names end with `endings`.
    """
    kernel, bias = endings
    found = []
    for name, shape in shapes.items():
        layer = name.removesuffix(kernel)
        classes = shapes.get(f"{layer}{bias}")
        if layer == name or layer in known or classes is None:
            continue
        sizes = sorted(size for size in shape if size != 1)
        if sizes == sorted([FEATURES, *(size for size in classes if size != 1)]):
            found.append(layer)
    return found


def rename_classifiers(
    tensors: Mapping[str, np.ndarray],
    expected: Mapping[str, str],
    endings: tuple[str, str],
    output_of: Callable[[str], str | None],
    named: str | Mapping[str, str] | None,
    source: str,
) -> dict[str, np.ndarray]:
    """Gives classifiers their expected names; fine-tuning often renames them.

    A classifier is the layer that the user `named`, else the one that is called as
    `expected`, else the only other layer that `output_of` says belongs to its output.
    """
    by_output = {MAIN: named} if isinstance(named, str) else named or {}
    by_output = {output_name(x, list(expected)): by_output[x] for x in by_output}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    dense = dense_layers(shapes, [*expected.values()], endings)
    outputs = {layer: output_of(layer) for layer in dense}
    kernel, renamed = endings[0], dict(tensors)
    for output, layer in expected.items():
        candidates = [name for name in dense if outputs[name] == output]
        layers = [x.removesuffix(kernel) for x in renamed if x.endswith(kernel)]
        found = _find(layers, candidates, layer, by_output.get(output), output, source)
        new = {f"{found}{ending}": f"{layer}{ending}" for ending in endings}
        renamed = {new.get(name, name): tensor for name, tensor in renamed.items()}
    return renamed


def _find(
    layers: list[str],
    candidates: list[str],
    expected: str,
    named: str | None,
    output: str,
    source: str,
) -> str:
    """Returns the one of `layers` that is the classifier of `output`, or `expected`."""
    if named is None:
        if expected in layers or not candidates:
            return expected
        if len(candidates) > 1:
            raise ValueError(
                f"{source} has several layers that could be the classifier of "
                f"{output!r}: {list_names(candidates)}. Name it, {_naming(output)}, "
                "and ignore the others (ignore=[NAME], or convert --ignore NAME)."
            )
        logger.info("%s: %r is the classifier of %s", source, candidates[0], output)
        return candidates[0]
    same = [layer for layer in layers if _is_same_layer(layer, named)]
    found = named if named in same or len(same) != 1 else same[0]
    if found not in same:
        raise ValueError(
            f"{source} has no layer {named!r} for the classifier of {output!r}. "
            f"Candidates: {list_names([*candidates, *({expected} & {*layers})])}"
        )
    if expected in layers and found != expected:
        raise ValueError(
            f"{source} has the classifier {expected!r} besides {found!r}. Leave it "
            f"out: ignore=[{expected!r}], or convert --ignore {expected}."
        )
    return found


def keep_heads(
    tensors: Mapping[str, Tensor],
    outputs: Mapping[str, str],
    auxiliary: Sequence[str] | None,
    source: str,
) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the tensors without those of unwanted heads, and the heads' endpoints.

    `outputs` gives a head's output by the prefix of its tensors, in network order.
    `auxiliary` names endpoints or outputs; None keeps the heads that the file has.
    """
    prefixes = dict(zip(outputs.values(), outputs, strict=True))
    present = [
        name
        for name, prefix in prefixes.items()
        if any(tensor.startswith(prefix) for tensor in tensors)
    ]
    wanted = present
    check_list("auxiliary", auxiliary)
    if auxiliary is not None:
        wanted = [output_name(head, list(prefixes)) for head in auxiliary]
        if missing := [name for name in wanted if name not in present]:
            raise ValueError(
                f"{source} has no head {list_names(missing)}. Heads in the file: "
                f"{list_names(present)}"
            )
    unwanted = tuple(prefixes[name] for name in present if name not in wanted)
    kept = {name: x for name, x in tensors.items() if not name.startswith(unwanted)}
    log_left_out(source, [n for n in tensors if n not in kept], "heads")
    endpoints = dict(zip(prefixes, AUXILIARY_ENDPOINTS, strict=True))
    return kept, [endpoints[name] for name in prefixes if name in wanted]


def check_classes(kernels: Mapping[str, np.ndarray | None], source: str) -> None:
    """Raises an error if a head has other classes than the main output.

    `kernels` are the classifiers' `(classes, ...)` by output; None where there is none.
    """
    classes = {name: len(one) for name, one in kernels.items() if one is not None}
    if len({*classes.values()}) > 1:
        counts = ", ".join(f"{name} {count:,}" for name, count in classes.items())
        raise ValueError(
            f"{source}: the heads have other classes than the main output ({counts}), "
            "so they can't be trained or read together. Leave the heads out: "
            "auxiliary=(), or convert --no-heads."
        )


def _is_same_layer(layer: str, named: str) -> bool:
    """Whether one of two names is the end of the other, below its wrappers."""
    one, other = (f"/{name.replace('.', '/')}" for name in (layer, named))
    return one.endswith(other) or other.endswith(one)


def _naming(output: str) -> str:
    if output == MAIN:
        return "classifier=NAME or convert --classifier NAME"
    return f"classifier={{{output!r}: NAME}} or convert --classifier {output}=NAME"
