"""Describing auxiliary classifiers: where they hang and how they are built."""

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from keras_inception.layers import scaled
from keras_inception.outputs import MAIN
from keras_inception.text import list_names

AUXILIARY_WEIGHT = 0.3  # the paper, section 5


@dataclasses.dataclass(frozen=True)
class AuxiliaryHead:
    """One auxiliary classifier: where it hangs and how it is built.

    Paper, section 5: average pool 5x5/3, 1x1 convolution, dense, dropout, dense,
    softmax. On maps smaller than 5x5 the pool covers the whole map; on maps larger than
    16x16 its windows grow and the grid stays 4x4. On vectors and sequences pool and
    convolution are left out.

    Args:
        at: Endpoint (layer) whose output the head reads, `"inception_4a"`.
        name: Name of the output and prefix of the head's layers. Defaults to `aux_`
            and `at` without `inception_`: `"aux_4a"`.
        filters: Width of the 1x1 convolution. Defaults to 128.
        units: Width of the dense layer. Defaults to 1024.
        dropout: Share dropped before the last dense layer, in [0, 1). Defaults to 0.7.
        batch_norm: Whether the convolution is followed by batch normalisation.
        superclasses: For each class, in order, the coarser class that this head learns
            (all names or all numbers); `None` (default): the classes themselves.

    Raises:
        ValueError: If a number is out of its range, or `superclasses` names fewer than
            two coarse classes or mixes names with numbers.

    Example:
    >>> AuxiliaryHead("inception_4a").name
    'aux_4a'
    >>> AuxiliaryHead("inception_3b", superclasses=["animal", "animal", "tool"]).name
    'aux_3b'
    """

    at: str
    name: str | None = None
    filters: int = 128
    units: int = 1024
    dropout: float = 0.7
    batch_norm: bool = False
    superclasses: Sequence[str | int] | None = None

    def __post_init__(self):
        if self.name is None:
            name = f"aux_{self.at.removeprefix('inception_')}"
            object.__setattr__(self, "name", name)
        if self.name == MAIN or "/" in self.name:
            raise ValueError(
                f"A head needs a name of its own without '/'; {MAIN!r} is the model's "
                f"own output. Received: name={self.name!r}"
            )
        for field in ("filters", "units"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"Head {self.name!r}: `{field}` must be at least 1. Received: "
                    f"{getattr(self, field)}"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"Head {self.name!r}: `dropout` is the share of values dropped, from "
                f"0 up to but not 1. Received: {self.dropout}"
            )
        if self.superclasses is not None:
            names = tuple(self.superclasses)
            object.__setattr__(self, "superclasses", names)
            if len({isinstance(name, str) for name in names}) != 1 or len(
                set(names)
            ) in (0, 1):
                raise ValueError(
                    f"Head {self.name!r}: `superclasses` gives every class the name "
                    "(or the number) of its coarser class, at least two different "
                    f"ones, all names or all numbers. Received: {list(names)}"
                )

    def widened(self, factor: float) -> "AuxiliaryHead":
        """The same head with `factor` times the filters and units.

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


def as_head(head: "str | AuxiliaryHead", **defaults) -> AuxiliaryHead:
    """An endpoint's name as a head with `defaults`; a head as it is."""
    if isinstance(head, AuxiliaryHead):
        return head
    if isinstance(head, str):
        return AuxiliaryHead(head, **defaults)
    raise ValueError(
        "A head is an endpoint's name or an AuxiliaryHead. Received: "
        f"{head!r} of type {type(head).__name__}"
    )


def read_superclasses(path: str | os.PathLike, class_names: Sequence[str]) -> list[str]:
    """Each class's superclass from a CSV file, for `AuxiliaryHead(superclasses=...)`.

    The file's first line is `class,superclass`; a line per class follows, in any order.

    Args:
        path: The file.
        class_names: The classes in label order.

    Returns:
        The superclasses' names in label order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another form, or its classes are not these: each
            once, none missing, none unknown.

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
        faults += [f"names what is no class: {list_names(unknown)}"] if unknown else []
        raise ValueError(
            f"{path} {', and '.join(faults)}. It must name each of these once: "
            f"{list_names(class_names)}"
        )
    return [superclasses[name] for name in class_names]
