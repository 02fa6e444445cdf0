"""Assigns the tensors of a file to a model: each exactly once, or none at all."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_inception.architecture import Architecture, Conv, Inception
from keras_inception.graph import random_states
from keras_inception.text import list_names

INCEPTION_PARTS = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")


class Assignment(NamedTuple):
    """A variable of the model, and the name of the file's tensor for it.

    `arrange` converts the file's array to the layout of the variable.
    """

    variable: keras.Variable
    key: str
    arrange: Callable[[np.ndarray], np.ndarray]


def convolution_names(architecture: Architecture) -> dict[str, list[str]]:
    """Lists each stage's convolutions, in the order of the table's columns."""
    names = {}
    for stage, row in architecture.rows.items():
        if isinstance(row, Conv):
            names[stage] = [stage]
        elif isinstance(row, Inception):
            names[stage] = [f"{stage}_{part}" for part in INCEPTION_PARTS]
    return names


def assign(
    model: keras.Model,
    plan: list[Assignment],
    tensors: Mapping[str, np.ndarray],
    source: str,
) -> None:
    """Assigns `tensors` to every weight of `model`, or assigns nothing.

    Args:
        model: A model that was just built.
        plan: One assignment for each weight of the model.
        tensors: The arrays of the file by name.
        source: The file, for error messages.

    Raises:
        ValueError: If a tensor is missing, unexpected, not finite or of another shape
            than its variable; names the tensors.
    """
    planned = {id(one.variable) for one in plan}
    planned |= {id(state) for state in random_states(model)}  # in no file
    forgotten = [weight.path for weight in model.weights if id(weight) not in planned]
    assert not forgotten, f"no tensor is planned for {forgotten}"
    faults = []
    missing = [one.key for one in plan if one.key not in tensors]
    surplus = sorted(set(tensors) - {one.key for one in plan})
    if missing:
        faults.append(f"lacks {list_names(missing, 6)}")
    if surplus:
        faults.append(f"has unexpected tensors: {list_names(surplus, 6)}")
    arranged, wrong = [], []
    for one in plan:
        if one.key not in tensors:
            continue
        tensor = np.asarray(tensors[one.key])
        try:
            value = np.asarray(one.arrange(tensor), dtype="float32")
        except ValueError:  # the wrong rank; the shapes are compared below
            value = tensor
        shape = tuple(one.variable.shape)
        if value.shape != shape:
            wrong.append(
                f"{one.key} {tuple(tensor.shape)} (does not fit {shape} of "
                f"{one.variable.path})"
            )
        elif not np.isfinite(value).all():
            wrong.append(f"{one.key} (has NaN or infinite values)")
        arranged.append(value)
    if wrong:
        faults.append(f"has wrong tensors: {list_names(wrong, 6)}")
    if faults:
        raise ValueError(f"{source} {'; it '.join(faults)}. Nothing was loaded.")
    for one, value in zip(plan, arranged, strict=True):
        one.variable.assign(value)


def as_is(tensor: np.ndarray) -> np.ndarray:
    """Returns the tensor unchanged."""
    return tensor


def convolution_kernel(tensor: np.ndarray) -> np.ndarray:
    """Converts (out, in, height, width), of torch and Caffe, to Keras's layout."""
    return np.transpose(tensor, (2, 3, 1, 0))


def dense_kernel(tensor: np.ndarray) -> np.ndarray:
    """Converts (out, in), of torch and Caffe, to Keras's (in, out)."""
    return np.transpose(tensor, (1, 0))


def dense_kernel_after_flatten(
    height: int, width: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Converts a dense kernel that reads flattened (channels, height, width) maps.

    Keras flattens (height, width, channels), so the rows change their order.
    """

    def arrange(tensor: np.ndarray) -> np.ndarray:
        by_position = tensor.reshape(tensor.shape[0], -1, height, width)
        return np.transpose(by_position, (2, 3, 1, 0)).reshape(-1, tensor.shape[0])

    return arrange
