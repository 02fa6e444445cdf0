"""The model card of an exported version: `model_card.md`."""

import datetime
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

import keras_inception
from keras_inception.export.signatures import Signature
from keras_inception.text import list_names

FILE = "model_card.md"


def write_card(
    path: Path,
    name: str,
    model: keras.Model,
    class_names: Sequence[str],
    signatures: Iterable[Signature],
    facts: Mapping[str, str],
) -> None:
    """Writes the card into a complete SavedModel, whose files it lists."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    rows = {
        "network": f"{model.name}, {model.count_params():,} parameters",
        "classes": f"{len(class_names):,}: {list_names(class_names)}",
        "data": "not recorded",
        "accuracy": "not recorded",
        **facts,
        "exported": now,
        "versions": f"keras-inception {keras_inception.__version__}, "
        f"keras {keras.__version__}, tensorflow {tf.__version__}",
    }
    lines = [
        f"# {name}",
        "",
        "A picture classifier: the main output of a network. Its auxiliary "
        "classifiers, which only help training, are left out. It takes raw RGB "
        "pixels; preprocessing is inside.",
        "",
        *_table(("", ""), rows.items()),
        "",
        "## Signatures",
        "",
        *_table(
            ("name", "takes", "returns"),
            [(f"`{s.name}`", s.takes, s.returns) for s in signatures],
        ),
        "",
        "## Files",
        "",
        *_table(
            ("file", "bytes", "SHA-256"),
            [
                (f"`{file}`", f"{size:,}", f"`{checksum}`")
                for file, (size, checksum) in checksums(path).items()
            ],
        ),
    ]
    (path / FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def checksums(path: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file of a SavedModel except the card itself."""
    found = {}
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != FILE:
            with file.open("rb") as opened:
                checksum = hashlib.file_digest(opened, "sha256").hexdigest()
            found[file.relative_to(path).as_posix()] = (file.stat().st_size, checksum)
    return found


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        cells = (str(cell).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
