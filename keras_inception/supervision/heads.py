"""Auxiliary classifiers: their endpoints, sizes, names, superclasses and layers."""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import keras

from keras_inception.architecture import ARCHITECTURES, Conv
from keras_inception.files import read_csv
from keras_inception.outputs import MAIN
from keras_inception.rows import convolution, scaled
from keras_inception.text import check_list, list_names, normal_form

AUXILIARY_WEIGHT = 0.3  # the paper, section 5


@dataclasses.dataclass(frozen=True)
class AuxiliaryHead:
    """One auxiliary classifier: the endpoint it reads and how it is built.

    Paper, section 5: average pool 5x5/3, 1x1 convolution, dense, dropout, dense,
    softmax. On maps smaller than 5x5 the pool covers the whole map; on maps larger than
    16x16 its windows grow and the grid stays 4x4. Vectors and sequences skip the pool
    and the convolution.

    Args:
        at: The endpoint, a layer whose output the head reads: `"inception_4a"`, or
            `"backbone/conv1"` in a sub-model.
        name: Name of the output and prefix of the head's layers. Defaults to `aux_`
            and the layer of `at`, without `inception_`: `"aux_4a"`.
        filters: Filters of the 1x1 convolution. Defaults to 128.
        units: Units of the dense layer. Defaults to 1024.
        dropout: Dropout rate before the last dense layer, in [0, 1). Defaults to 0.7.
        batch_norm: Whether batch normalization follows the convolution. Defaults to
            False.
        superclasses: The superclass of each class, in label order (all names or all
            numbers), or a dict from each class's number to its superclass, for a head
            that predicts superclasses; `None` (default) for a head that predicts the
            classes.

    Raises:
        ValueError: If a number is out of its range, or `superclasses` names fewer than
            two superclasses or mixes names with numbers.

    Example:
    >>> AuxiliaryHead("inception_4a").name
    'aux_4a'
    >>> AuxiliaryHead("inception_3b", superclasses=["animal", "animal", "tool"]).name
    'aux_3b'
    """

    at: str
    name: str = cast(str, None)  # `__post_init__` puts the default in its place
    filters: int = 128
    units: int = 1024
    dropout: float = 0.7
    batch_norm: bool = False
    superclasses: Sequence[str | int] | None = None

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", _default_name(self.at))
        if self.name == MAIN or "/" in self.name:
            raise ValueError(
                f"{self.name!r} can't be the name of a head: {MAIN!r} is the model's "
                "own output, and '/' is not allowed. Choose another `name`."
            )
        if self.superclasses is not None:
            in_order = _in_label_order(self.superclasses, self.name)
            object.__setattr__(self, "superclasses", in_order)
        names, fault = self.superclasses, None
        if self.filters < 1:
            fault = f"`filters` must be at least 1. Received: {self.filters}"
        elif self.units < 1:
            fault = f"`units` must be at least 1. Received: {self.units}"
        elif not 0 <= self.dropout < 1:
            fault = f"`dropout` must be in [0, 1). Received: {self.dropout}"
        elif names is not None and (
            len({isinstance(name, str) for name in names}) != 1 or len({*names}) < 2
        ):
            fault = (
                "`superclasses` gives each class the name or the number of its "
                "superclass: at least two different ones, all names or all numbers. "
                f"Received: {list_names(names)}"
            )
        if fault:
            raise ValueError(f"Head {self.name!r}: {fault}")

    def widened(self, factor: float) -> "AuxiliaryHead":
        """Returns the same head with `factor` times the filters and units.

        Raises:
            ValueError: If `factor` is not above 0 and finite.

        Example:
        >>> AuxiliaryHead("inception_4a").widened(0.25).units
        256
        """
        if not 0 < factor < math.inf:
            raise ValueError(
                f"Head {self.name!r}: the width must be a finite number above 0. "
                f"Received: {factor}"
            )
        filters, units = scaled(self.filters, factor), scaled(self.units, factor)
        return dataclasses.replace(self, filters=filters, units=units)


def _in_label_order(superclasses: Any, head: str) -> tuple[str | int, ...]:
    """The superclasses as a tuple; `tuple(...)` of a dict would be its classes."""
    if isinstance(superclasses, str):
        superclasses = [superclasses]
    if not isinstance(superclasses, Mapping):
        return tuple(superclasses)
    numbers = range(len(superclasses))
    if any(isinstance(key, str) or key not in numbers for key in superclasses):
        raise ValueError(
            f"Head {head!r}: as a dict, `superclasses` has the numbers of the classes "
            f"as keys, 0 to the last one. Received the keys: "
            f"{list_names(superclasses)}. For names of classes, give a list: "
            "[superclass_of[name] for name in class_names]"
        )
    return tuple(superclasses[number] for number in numbers)


def head_logits(
    x: keras.KerasTensor,
    head: AuxiliaryHead,
    classes: int,
    adaptive_pool: bool = False,
) -> keras.KerasTensor:
    """Adds the layers of a head up to its logits, for `classes` or its superclasses."""
    name, rank = head.name, len(x.shape)
    if rank == 4:
        x = _head_pool(x, f"{name}_ave_pool", adaptive_pool)
        x = convolution(x, Conv(head.filters, 1), f"{name}_conv", head.batch_norm)
        x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    elif rank == 3:
        x = keras.layers.GlobalAveragePooling1D(name=f"{name}_ave_pool")(x)
    elif rank != 2:
        raise ValueError(
            f"Head {name!r} needs feature maps (batch, height, width, channels), a "
            "sequence (batch, steps, features) or vectors (batch, features). "
            f"Received the shape: {tuple(x.shape)}"
        )
    dense = {"activation": "relu", "kernel_initializer": "he_normal"}
    x = keras.layers.Dense(head.units, **dense, name=f"{name}_fc")(x)
    x = keras.layers.Dropout(head.dropout, name=f"{name}_drop_fc")(x)
    width = len(set(head.superclasses)) if head.superclasses else classes
    return keras.layers.Dense(width, name=f"{name}_classifier")(x)


def _head_pool(x, name: str, adaptive: bool):
    """Adds the paper's pool, 5x5 windows with stride 3, on maps of up to 16x16.

    A smaller map than the window is pooled whole. On a larger one than 16x16 the
    windows grow and the grid stays 4x4, so that the dense layer stays small.
    """
    sides = x.shape[1:3]
    if adaptive or any(side is None or side > 16 for side in sides):
        return keras.layers.AdaptiveAveragePooling2D(4, name=name)(x)
    window = tuple(min(5, side) for side in sides)
    return keras.layers.AveragePooling2D(window, 3, name=name)(x)


def as_heads(
    argument: str, heads: Iterable[str | AuxiliaryHead], **defaults: Any
) -> list[AuxiliaryHead]:
    """Returns heads as they are, and endpoints' names as heads with `defaults`.

    Anything else is a `ValueError` that names `argument`.
    """
    check_list(argument, heads)
    return [_as_head(head, **defaults) for head in heads]


def _as_head(head: str | AuxiliaryHead, **defaults: Any) -> AuxiliaryHead:
    if isinstance(head, AuxiliaryHead):
        return head
    if isinstance(head, str):
        return AuxiliaryHead(head, **defaults)
    raise ValueError(
        "A head is an endpoint's name or an AuxiliaryHead. Received: "
        f"{head!r} of type {type(head).__name__}"
    )


def output_name(endpoint_or_output: str, outputs: Sequence[str]) -> str:
    """Returns the one of `outputs` with this name, or whose head reads this endpoint.

    The endpoint of a head is known only if its output has the default name.

    Raises:
        ValueError: If neither form names one of `outputs`; lists both forms of each.

    Example:
    >>> output_name("inception_4a", ["main", "aux_4a", "aux_4d"])
    'aux_4a'
    >>> output_name("aux_4d", ["main", "aux_4a", "aux_4d"])
    'aux_4d'
    """
    for name in (endpoint_or_output, _default_name(endpoint_or_output)):
        if name in outputs:
            return name
    raise ValueError(
        f"There is no output or endpoint {endpoint_or_output!r} among these outputs "
        f"(endpoints in brackets): {', '.join(map(_with_endpoint, outputs)) or 'none'}"
    )


def _default_name(endpoint: str) -> str:
    layer = endpoint.rpartition("/")[2]
    return f"aux_{layer.removeprefix('inception_')}"


def _with_endpoint(output: str) -> str:
    """Returns `"aux_4a (inception_4a)"`, if the output has the name of a head."""
    if not output.startswith("aux_"):
        return output
    endpoint = output.removeprefix("aux_")
    module = f"inception_{endpoint}"
    is_module = any(module in table.rows for table in ARCHITECTURES.values())
    return f"{output} ({module if is_module else endpoint})"


def read_superclasses(path: str | os.PathLike, class_names: Sequence[str]) -> list[str]:
    """Reads each class's superclass from a CSV file, for `AuxiliaryHead`.

    The first line of the file is `class,superclass`; a line for each class follows, in
    any order. The result is in the order of `class_names`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has another form, or does not name exactly these
            classes, each once.

    Example:
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp(), "superclasses.csv")
    >>> _ = file.write_text("class,superclass\\nbee,insect\\nlion,cat\\ntabby,cat\\n")
    >>> read_superclasses(file, ["bee", "lion", "tabby"])
    ['insect', 'cat', 'cat']
    """
    fault = "gives no superclasses"
    rows = [[c.strip() for c in row] for row in read_csv(Path(path), fault) if row]
    if rows[:1] != [["class", "superclass"]]:
        first = ",".join(rows[0]) if rows else "an empty file"
        raise ValueError(
            f"{path} must begin with the line 'class,superclass'. Received: {first!r}"
        )
    superclasses = {}
    for row in rows[1:]:
        if len(row) != 2 or not all(row):
            line = ",".join(row)
            raise ValueError(
                f"{path}: each line is a class and its superclass. Received: {line!r}"
            )
        if normal_form(row[0]) in superclasses:
            raise ValueError(f"{path} names the class {row[0]!r} twice.")
        superclasses[normal_form(row[0])] = row[1]
    names = list(map(normal_form, class_names))
    missing = [name for name in names if name not in superclasses]
    unknown = [name for name in superclasses if name not in names]
    if missing or unknown:
        faults = [f"has no line for {list_names(missing)}"] if missing else []
        faults += [f"names unknown classes: {list_names(unknown)}"] if unknown else []
        raise ValueError(
            f"{path} {', and '.join(faults)}. It must name each of these once: "
            f"{list_names(class_names)}"
        )
    return [superclasses[name] for name in names]
