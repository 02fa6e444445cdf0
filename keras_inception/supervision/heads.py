"""Auxiliary classifiers as data: their endpoints, sizes, names and superclasses."""

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from keras_inception.architecture import ARCHITECTURES
from keras_inception.layers import scaled
from keras_inception.outputs import MAIN
from keras_inception.text import list_names

AUXILIARY_WEIGHT = 0.3  # the paper, section 5


@dataclasses.dataclass(frozen=True)
class AuxiliaryHead:
    """One auxiliary classifier: the endpoint it reads and how it is built.

    Paper, section 5: average pool 5x5/3, 1x1 convolution, dense, dropout, dense,
    softmax. On maps smaller than 5x5 the pool covers the whole map; on maps larger than
    16x16 its windows grow and the grid stays 4x4. Vectors and sequences skip the pool
    and the convolution.

    Args:
        at: The endpoint, a layer whose output the head reads: `"inception_4a"`.
        name: Name of the output and prefix of the head's layers. Defaults to `aux_`
            and `at` without `inception_`: `"aux_4a"`.
        filters: Filters of the 1x1 convolution. Defaults to 128.
        units: Units of the dense layer. Defaults to 1024.
        dropout: Dropout rate before the last dense layer, in [0, 1). Defaults to 0.7.
        batch_norm: Whether batch normalization follows the convolution. Defaults to
            False.
        superclasses: The superclass of each class, in label order (all names or all
            numbers), for a head that predicts superclasses; `None` (default) for a
            head that predicts the classes.

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
        for field in ("filters", "units"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"Head {self.name!r}: `{field}` must be at least 1. Received: "
                    f"{getattr(self, field)}"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"Head {self.name!r}: `dropout` is a rate of at least 0 and below 1. "
                f"Received: {self.dropout}"
            )
        if self.superclasses is not None:
            names = tuple(self.superclasses)
            object.__setattr__(self, "superclasses", names)
            kinds = {isinstance(name, str) for name in names}
            if len(kinds) != 1 or len(set(names)) < 2:
                raise ValueError(
                    f"Head {self.name!r}: `superclasses` gives each class the name or "
                    "the number of its superclass: at least two different ones, all "
                    f"names or all numbers. Received: {list_names(names)}"
                )

    def widened(self, factor: float) -> "AuxiliaryHead":
        """Returns the same head with `factor` times the filters and units.

        Raises:
            ValueError: If `factor` is not above 0.

        Example:
        >>> AuxiliaryHead("inception_4a").widened(0.25).units
        256
        """
        if not factor > 0:
            raise ValueError(
                f"Head {self.name!r}: the width must be above 0. Received: {factor}"
            )
        return dataclasses.replace(
            self,
            filters=scaled(self.filters, factor),
            units=scaled(self.units, factor),
        )


def as_head(head: str | AuxiliaryHead, **defaults: Any) -> AuxiliaryHead:
    """Returns a head as it is, and an endpoint's name as a head with `defaults`.

    Raises:
        ValueError: If `head` is neither.
    """
    if isinstance(head, AuxiliaryHead):
        return head
    if isinstance(head, str):
        return AuxiliaryHead(head, **defaults)
    raise ValueError(
        "A head is an endpoint's name or an AuxiliaryHead. Received: "
        f"{head!r} of type {type(head).__name__}"
    )


def output_name(endpoint_or_output: str, outputs: Sequence[str]) -> str:
    """Returns the output that is meant by its own name or by its head's endpoint.

    Args:
        endpoint_or_output: `"aux_4a"`, or `"inception_4a"` for a head whose output has
            the default name.
        outputs: The names of the outputs to choose from.

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
    known = [
        f"{output} ({endpoint})" if (endpoint := _default_endpoint(output)) else output
        for output in outputs
    ]
    raise ValueError(
        f"There is no output or endpoint {endpoint_or_output!r} among these outputs "
        f"(endpoints in brackets): {', '.join(known) or 'none'}"
    )


def _default_name(endpoint: str) -> str:
    return f"aux_{endpoint.removeprefix('inception_')}"


def _default_endpoint(output: str) -> str | None:
    """Returns the endpoint whose head has this name by default, if it has the form."""
    if not output.startswith("aux_"):
        return None
    endpoint = output.removeprefix("aux_")
    module = f"inception_{endpoint}"
    is_module = any(module in table.rows for table in ARCHITECTURES.values())
    return module if is_module else endpoint


def read_superclasses(path: str | os.PathLike, class_names: Sequence[str]) -> list[str]:
    """Reads each class's superclass from a CSV file, for `AuxiliaryHead`.

    The first line of the file is `class,superclass`; a line for each class follows, in
    any order.

    Args:
        path: The file.
        class_names: The classes in label order.

    Returns:
        The superclasses' names in label order.

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
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    if not rows or rows[0] != ["class", "superclass"]:
        raise ValueError(
            f"{path} must begin with the line 'class,superclass'. Received: "
            f"{','.join(rows[0]) if rows else 'an empty file'!r}"
        )
    superclasses = {}
    for row in rows[1:]:
        if len(row) != 2 or not all(row):
            raise ValueError(
                f"{path}: each line names a class and its superclass. Received: "
                f"{','.join(row)!r}"
            )
        name, superclass = row
        if name in superclasses:
            raise ValueError(f"{path} names the class {name!r} twice.")
        superclasses[name] = superclass
    missing = [name for name in class_names if name not in superclasses]
    unknown = [name for name in superclasses if name not in class_names]
    if missing or unknown:
        faults = [f"has no line for {list_names(missing)}"] if missing else []
        faults += [f"names unknown classes: {list_names(unknown)}"] if unknown else []
        raise ValueError(
            f"{path} {', and '.join(faults)}. It must name each of these once: "
            f"{list_names(class_names)}"
        )
    return [superclasses[name] for name in class_names]
