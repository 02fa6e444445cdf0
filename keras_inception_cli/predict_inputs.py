"""The pictures that `predict` is asked about: files, folders, patterns and addresses.

Nothing is read before its turn, so that a folder may hold any number of pictures.
"""

import contextlib
import fnmatch
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from keras_inception_cli.predict_remote import download

_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
_NOT_PICTURES = "not pictures"


class Picture(NamedTuple):
    """A picture to answer, or the fault that keeps it from being answered.

    Attributes:
        name: The path, or the address.
        fault: Why there is nothing to read, `None` otherwise.
        searched: Whether it was found in a folder. If its contents and its suffix are
            those of something else, it is passed over.
    """

    name: str
    fault: str | None = None
    searched: bool = False

    @property
    def is_address(self) -> bool:
        """Whether it is fetched over the network."""
        return self.fault is None and _ADDRESS.match(self.name) is not None


class PassedOver:
    """Counts the files that a search has found and that were not read as pictures."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._suffixes: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Counts a file that was not opened."""
        self._reasons[reason] += 1

    def add_other(self, name: str) -> None:
        """Counts a file whose contents are not a picture."""
        self._reasons[_NOT_PICTURES] += 1
        self._suffixes[Path(name).suffix.lower() or "no suffix"] += 1

    def __str__(self) -> str:
        """Gives the counts in one line; empty if there are none."""
        listed = ", ".join(
            f"{n} {suffix}" for suffix, n in self._suffixes.most_common()
        )
        counts = (
            f"{n} {reason}" + (f" ({listed})" if reason == _NOT_PICTURES else "")
            for reason, n in self._reasons.items()
        )
        return "; ".join(counts)


def find(words: list[str], passed_over: PassedOver) -> Iterator[Picture]:
    """Yields the pictures that words of the command line mean, in their order.

    An existing file or folder is taken by its name, whatever characters are in it. Of
    other words, those with `*`, `?` or `[` are patterns. `**` matches folders of any
    depth, without links to folders and without hidden and machine-made files.
    """
    for word in words:
        nothing = True
        for picture in _find(word, passed_over):
            nothing = False
            yield picture
        if nothing:
            yield Picture(word, "there is no picture in it")


def contents_of(picture: Picture, as_it_is: bool = False) -> bytes | None:
    """Reads a picture as bytes that an exported model decodes.

    Returns `None` for something else that was found in a folder. `as_it_is` reads a
    file of `are_common_files`.

    Raises:
        ValueError, OSError: With the reason, without the name.
    """
    if picture.fault is not None:
        raise ValueError(picture.fault)
    if as_it_is:
        return Path(picture.name).read_bytes()
    if not picture.is_address:
        return _decodable(Path(picture.name), picture.searched)
    from keras_inception.data.pictures import as_decodable_bytes

    return as_decodable_bytes(download(picture.name))


def are_common_files(words: list[str]) -> bool:
    """Whether all are JPEG, PNG or GIF files, which a server takes as they are.

    To read others `contents_of` imports TensorFlow, which takes seconds.
    """
    return all(os.path.isfile(word) and _is_common(word) for word in words)


def _is_common(path: str) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(8).startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8"))
    return False


def _decodable(path: Path, searched: bool) -> bytes | None:
    from keras_inception.data import pictures

    native, _, fault, kind, _ = pictures.examine(path)
    if searched and kind is None and path.suffix.lower() not in pictures.SUFFIXES:
        return None
    if fault is not None:
        raise ValueError(fault)
    contents = path.read_bytes()
    return contents if native else pictures.as_decodable_bytes(contents)


def _find(word: str, passed_over: PassedOver) -> Iterator[Picture]:
    address = _ADDRESS.match(word)
    if address and address[1].lower() in ("http", "https"):
        yield Picture(word)
    elif os.path.isdir(word):
        yield from _search(Path(word), ("**",), passed_over)
    elif os.path.lexists(word):
        yield Picture(word)
    elif address:
        fault = f"only http:// and https:// addresses are read, not {address[1]}://"
        yield Picture(word, fault)
    else:
        yield from _expand(word, passed_over)


def _expand(word: str, passed_over: PassedOver) -> Iterator[Picture]:
    # A part that exists is not a pattern: in "photos [2024]/*.jpg" only the last is.
    base, pattern = Path(), list(Path(word).parts)
    while pattern and os.path.exists(base / pattern[0]):
        base /= pattern.pop(0)
    if not glob.has_magic(word):
        yield Picture(word, "there is no such file or folder")
    elif not base.is_dir():
        yield Picture(word, f"{base} is not a folder")
    elif "**" in pattern:
        yield from _search(base, tuple(pattern), passed_over)
    else:
        matches = glob.glob(os.path.join(*pattern), root_dir=base)
        if not matches:
            yield Picture(word, "no file matches this pattern")
        for path in sorted(base / match for match in matches):
            if path.is_dir():
                yield from _search(path, ("**",), passed_over)
            else:
                yield Picture(str(path))


def _search(
    folder: Path, pattern: tuple[str, ...], passed_over: PassedOver
) -> Iterator[Picture]:
    from keras_inception.data.walk import walk

    try:
        for path, reason in walk(folder):
            if _fits(path.relative_to(folder).parts, pattern):
                if reason:
                    passed_over.add(reason)
                else:
                    yield Picture(str(path), searched=True)
    except OSError as error:
        yield Picture(str(error.filename or folder), error.strerror or str(error))


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern == ("**",):
        return True
    if pattern[0] == "**":
        return any(_fits(parts[n:], pattern[1:]) for n in range(len(parts) + 1))
    fits = bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0])
    return fits and _fits(parts[1:], pattern[1:])
