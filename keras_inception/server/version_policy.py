"""Which versions of a model are there, and which of them are to be served."""

import dataclasses
import functools
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Attributes:
        name: Its name in requests.
        directory: The directory of its versions.
        latest: How many of the highest versions are served.
        every: Whether all versions are served.
        numbers: Versions that are served as well.
        labels: Version number by label; a label moves to a version that is served.
        runtime: `"tensorflow"`, `"onnx"` or `"openvino"`; by default recognized by the
            version's files.
    """

    name: str
    directory: Path
    latest: int = 1
    every: bool = False
    numbers: tuple[int, ...] = ()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    runtime: str | None = None

    def retire(self) -> "ModelConfig":
        """The configuration of a model that is no longer to be served."""
        return ModelConfig(self.name, self.directory, latest=0, runtime=self.runtime)

    @property
    def retired(self) -> bool:
        """Whether no version is to be served."""
        return not (self.every or self.latest or self.numbers)

    def select(self, present: Iterable[int]) -> list[int]:
        """The versions to serve among those that are there, ascending."""
        numbers = sorted(present)
        highest = numbers[-self.latest :] if self.latest else []
        chosen = {*highest, *self.numbers}
        return [number for number in numbers if self.every or number in chosen]


def versions_in(directory: Path) -> dict[int, Path]:
    """The versions in a directory: their paths by number.

    The rules of file_system_storage_path_source.cc: `-1` and `007` are numbers, those
    beyond int64 are ignored, and of `007` and `7` the last in order counts.
    """
    found: dict[int, Path] = {}
    if not directory.is_dir():
        return found
    for path in sorted(directory.iterdir(), key=lambda path: path.name):
        name = path.name
        if not re.fullmatch(r"[+-]?[0-9]{1,400}", name) or not path.is_dir():
            continue
        if not -(2**63) <= int(name) < 2**63:
            continue
        if int(name) in found:
            other = found[int(name)].name
            _warn_once(f"{directory}: {other} is ignored; version {name} is beside it")
        found[int(name)] = path
    return found


@functools.cache  # the directory is read every second
def _warn_once(message: str) -> None:
    _log.warning(message)
