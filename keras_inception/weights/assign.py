"""Assigns the tensors of a file to a model: each exactly once, or none at all."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_inception.architecture import Architecture, Conv, Inception
from keras_inception.graph import random_states
from keras_inception.text import list_names

INCEPTION_PARTS = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")


Arrange = Callable[[np.ndarray], np.ndarray]


class Assignment(NamedTuple):
    """A variable of the model, and the name of the file's tensor for it.

    `arrange` converts the file's array to the layout of the variable.
    """

    variable: keras.Variable
    key: str
    arrange: Arrange = np.asarray


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
    heads: Sequence[str] = (),
) -> None:
    """Assigns `tensors` to every weight of `model`, or assigns nothing.

    The error names tensors that are missing, unexpected, not finite or of another shape
    than their variable. `plan` has an assignment for each weight of the model; the
    tensors of heads begin with one of `heads`.
    """
    planned = {id(one.variable) for one in plan}
    planned |= {id(state) for state in random_states(model)}  # in no file
    forgotten = [weight.path for weight in model.weights if id(weight) not in planned]
    assert not forgotten, f"no tensor is planned for {forgotten}"
    missing = [one.key for one in plan if one.key not in tensors]
    surplus = sorted(set(tensors) - {one.key for one in plan})
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
            fault = f"(does not fit {shape} of {one.variable.path})"
            wrong.append(f"{one.key} {tuple(tensor.shape)} {fault}")
        elif not np.isfinite(value).all():
            wrong.append(f"{one.key} (has NaN or infinite values)")
        arranged.append(value)
    kinds = {"lacks": missing, "has unexpected tensors:": surplus}
    kinds["has wrong tensors:"] = wrong
    faults = [f"{kind} {list_names(them, 6)}" for kind, them in kinds.items() if them]
    if faults:
        fixes = []
        if any(name.startswith(tuple(heads)) for name in [*missing, *wrong]):
            fixes += [" auxiliary=() or convert --no-heads loads it without heads."]
        if surplus:
            fixes += [" ignore=[NAME] or convert --ignore NAME leaves tensors out."]
        text = f"{source} {'; it '.join(faults)}. Nothing was loaded."
        raise ValueError("".join([text, *fixes]))
    for one, value in zip(plan, arranged, strict=True):
        one.variable.assign(value)


def convolution_kernel(tensor: np.ndarray) -> np.ndarray:
    """Converts (out, in, height, width), of torch and Caffe, to Keras's layout."""
    return np.transpose(tensor, (2, 3, 1, 0))


def dense_kernel(tensor: np.ndarray) -> np.ndarray:
    """Converts (out, in), of torch and Caffe, to Keras's (in, out)."""
    return np.transpose(tensor, (1, 0))


def dense_kernel_of_head(tensor: np.ndarray) -> np.ndarray:
    """Converts a dense kernel that reads flattened (channels, 4, 4) maps.

    Keras flattens (4, 4, channels), so the rows change their order.
    """
    units = tensor.shape[0]
    return convolution_kernel(tensor.reshape(units, -1, 4, 4)).reshape(-1, units)
