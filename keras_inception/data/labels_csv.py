"""A table of pictures and their classes as a dataset: `FILE.csv`, `DIR:FILE.csv`.

The table has the columns `path` and `label`, optionally `split` (train, validation or
test), under these names or other common ones.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from keras_inception.data.layouts import split_of
from keras_inception.data.listing import SPLITS, LabeledPaths, Listing
from keras_inception.data.walk import walk
from keras_inception.text import list_names, normal_form

NOT_LISTED = "not listed in the CSV file"

_COLUMNS = {
    "path": ("path", "file", "filename", "filepath", "image", "imagepath", "id"),
    "label": ("label", "class", "classname", "category", "breed", "target"),
    "split": ("split", "subset", "partition"),
}


def is_csv(spec: str) -> bool:
    """Whether a DATA argument names a CSV file, alone or after `DIR:`."""
    return spec.lower().endswith(".csv") and not Path(spec).is_dir()


def list_csv(spec: str, class_names: Sequence[str] | None = None) -> Listing:
    """Lists the files that a CSV file names.

    Args:
        spec: `FILE.csv`, whose paths are relative to its own folder, or `DIR:FILE.csv`,
            whose paths are relative to the folder DIR; FILE.csv lies in DIR or in the
            working directory.
        class_names: Classes in label order; labels may be missing then, and others are
            an error. By default the classes are the training split's labels, sorted.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If the file is not a table of that form, names a picture twice with
            different labels, or has fewer than two classes.
    """
    table, root, is_whole = _locate(spec)
    labels: dict[str, dict[Path, str]] = {}
    label_of: dict[Path, str] = {}
    # The folder of a CSV file that stands alone may hold anything.
    found = [x for x in walk(root) if x.path != table] if is_whole else []
    by_stem = _by_stem(path for path, _ in found)
    for line, row in _rows(table):
        path, label = root / row["path"], normal_form(row["label"].strip())
        if not path.suffix and not path.exists():  # an identifier without a suffix
            path = by_stem.get(path, path)
        if not row["path"] or not label.isprintable() or not label:
            raise ValueError(
                f"{table}, line {line}: a path and a label are needed. Received: {row}"
            )
        if label_of.setdefault(path, label) != label:
            raise ValueError(
                f"{table}, line {line}: {row['path']} has the label {label!r}, and "
                f"{label_of[path]!r} in an earlier line. Keep one of them."
            )
        split = split_of(row.get("split") or "train")
        if split is None:
            raise ValueError(
                f"{table}, line {line}: the split must be train, validation or test. "
                f"Received: {row['split']!r}"
            )
        labels.setdefault(split, {})[path] = label
    names = _class_names(table, labels, class_names)
    index_by_name = {name: index for index, name in enumerate(names)}
    by_split: dict[str, LabeledPaths] = {
        split: sorted(
            ((path, index_by_name[label]) for path, label in labels[split].items()),
            key=lambda file: (file[1], file[0]),
        )
        for split in SPLITS
        if split in labels
    }
    passed_over = [
        (path, reason or NOT_LISTED) for path, reason in found if path not in label_of
    ]
    name = root.resolve().name if is_whole else table.stem
    return Listing(root, name, names, **by_split, passed_over=passed_over)


def _locate(spec: str) -> tuple[Path, Path, bool]:
    """The CSV file, the folder of its paths, and whether DATA names that folder."""
    folder, colon, file = spec.rpartition(":")
    is_whole = bool(colon) and not Path(spec).is_file()
    if not is_whole:
        root, candidates = Path(spec).parent, [Path(spec)]
    else:
        root = Path(folder)
        candidates = [root / file, Path(file)]
        if not root.is_dir():
            raise FileNotFoundError(f"There is no folder {folder!r} for {spec!r}.")
    for table in candidates:
        if table.is_file():
            return table, root, is_whole
    tried = " or ".join(str(table) for table in candidates)
    raise FileNotFoundError(f"There is no CSV file {tried}.")


def _rows(table: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yields line number and `path`, `label`, `split` of each row."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not a CSV file in UTF-8: {error}") from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    lines = io.StringIO(text, newline="")
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    columns: dict[str, str] = {}
    for field, names in _COLUMNS.items():
        for column in reader.fieldnames or ():
            if column.strip().lower().replace("_", "").replace(" ", "") in names:
                columns.setdefault(field, column)
    if not {"path", "label"} <= columns.keys():
        raise ValueError(
            f"{table} needs a first line with the columns path and label, and if there "
            f"are splits, split. Its first line: {header.strip()!r}"
        )
    try:
        for row in reader:
            yield reader.line_num, {k: row[v] or "" for k, v in columns.items()}
    except csv.Error as error:
        raise ValueError(f"{table}, line {reader.line_num}: {error}") from None


def _class_names(
    table: Path, labels: Mapping[str, dict[Path, str]], given: Sequence[str] | None
) -> list[str]:
    if given is None:
        names = sorted(set(labels.get("train", {}).values()))
        if len(names) < 2:
            raise ValueError(
                "A classifier needs at least two classes. Labels of the training split "
                f"in {table}: {list_names(names)}"
            )
    else:
        names = [normal_form(name) for name in given]
    for split, label_of in labels.items():
        surplus = sorted(set(label_of.values()) - set(names))
        if surplus:
            raise ValueError(
                f"{table} has labels in the {split} split that are unknown: "
                f"{list_names(surplus, 5)}. The known classes are "
                f"{list_names(names, 10)}."
            )
    return names


def _by_stem(paths: Iterable[Path]) -> dict[Path, Path]:
    """Files by their path without suffix, where that is unique."""
    found: dict[Path, Path] = {}
    twice = set()
    for path in paths:
        stem = path.with_suffix("")
        if found.setdefault(stem, path) != path:
            twice.add(stem)
    return {stem: path for stem, path in found.items() if stem not in twice}
