"""Coarser labels for early heads, from a table of classes and superclasses."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ["class", "superclass"]


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
    if not rows or rows[0] != COLUMNS:
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
        faults = [f"has no line for {_some(missing)}"] if missing else []
        faults += [f"names what is no class: {_some(unknown)}"] if unknown else []
        raise ValueError(
            f"{path} {', and '.join(faults)}. It must name each of these once: "
            f"{_some(class_names)}"
        )
    return [superclasses[name] for name in class_names]


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names[:10]))
    return f"{listed}, ... ({len(names)})" if len(names) > 10 else listed
