"""Placing a file's tensors into a model: every one, exactly once, or none."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from keras_inception.architecture import Architecture, Conv, Inception
from keras_inception.graph import random_states

INCEPTION_PARTS = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")


class Wanted(NamedTuple):
    """One variable of the model and the tensor that belongs there.

    `arrange` turns the file's array into the variable's layout.
    """

    variable: object
    key: str
    arrange: Callable[[np.ndarray], np.ndarray]


def convolution_names(architecture: Architecture) -> dict[str, list[str]]:
    """Stage to the names of its convolutions, in the order of the table's columns."""
    names = {}
    for stage, row in architecture.rows.items():
        if isinstance(row, Conv):
            names[stage] = [stage]
        elif isinstance(row, Inception):
            names[stage] = [f"{stage}_{part}" for part in INCEPTION_PARTS]
    return names


def place(
    model, plan: list[Wanted], tensors: Mapping[str, np.ndarray], source: str
) -> None:
    """Assigns every variable of `model` from `tensors`, or nothing at all.

    Args:
        model: A model that was just built.
        plan: What belongs where; each weight of the model once.
        tensors: The file's arrays by name.
        source: The file, for errors.

    Raises:
        ValueError: With the names of tensors that are missing, left over, not finite or
            of another shape than the variable wants.
    """
    planned = {id(wanted.variable) for wanted in plan}
    planned |= {id(state) for state in random_states(model)}  # not in any file
    forgotten = [weight.path for weight in model.weights if id(weight) not in planned]
    assert not forgotten, f"no tensor is planned for {forgotten}"
    faults = []
    missing = [wanted.key for wanted in plan if wanted.key not in tensors]
    surplus = sorted(set(tensors) - {wanted.key for wanted in plan})
    if missing:
        faults.append(f"lacks {some(missing)}")
    if surplus:
        faults.append(f"has {some(surplus)}, which have no place here")
    arranged, wrong = [], []
    for wanted in plan:
        if wanted.key not in tensors:
            continue
        tensor = np.asarray(tensors[wanted.key])
        try:
            value = np.asarray(wanted.arrange(tensor), dtype="float32")
        except ValueError:
            value = tensor
        shape = tuple(wanted.variable.shape)
        if value.shape != shape:
            wrong.append(
                f"{wanted.key} {tuple(tensor.shape)} (does not fit {shape} of "
                f"{wanted.variable.path})"
            )
        elif not np.isfinite(value).all():
            wrong.append(f"{wanted.key} (has values that are not finite)")
        arranged.append(value)
    if wrong:
        faults.append(f"has wrong tensors: {some(wrong)}")
    if faults:
        raise ValueError(f"{source} {'; it '.join(faults)}. Nothing was loaded.")
    for wanted, value in zip(plan, arranged, strict=True):
        wanted.variable.assign(value)


def some(names: list[str]) -> str:
    """A list for an error message, cut where it gets long."""
    names = list(names)
    shown = ", ".join(names[:6])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 6 else shown


def as_is(tensor: np.ndarray) -> np.ndarray:
    return tensor


def convolution_kernel(tensor: np.ndarray) -> np.ndarray:
    """(out, in, height, width), as torch and Caffe keep it, to Keras's layout."""
    return np.transpose(tensor, (2, 3, 1, 0))


def dense_kernel(tensor: np.ndarray) -> np.ndarray:
    """(out, in), as torch and Caffe keep it, to Keras's (in, out)."""
    return np.transpose(tensor, (1, 0))


def dense_kernel_after_flatten(height: int, width: int):
    """A dense kernel behind flattened (channels, height, width) maps.

    Keras flattens (height, width, channels), so the rows change their order.
    """

    def arrange(tensor: np.ndarray) -> np.ndarray:
        by_place = tensor.reshape(tensor.shape[0], -1, height, width)
        return np.transpose(by_place, (2, 3, 1, 0)).reshape(-1, tensor.shape[0])

    return arrange
