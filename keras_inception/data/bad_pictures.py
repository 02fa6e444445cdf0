"""Picture files that can't be decoded: skipped, counted and named, up to a limit.

Most are found by `pictures.examine` before any is decoded, and reported by `add`. The
rest fail in the middle of a pipeline, which `skip_bad` makes continue without them.
"""

import functools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from keras_inception.data.pictures import decoding_fault
from keras_inception.text import list_names


class BadPictures:
    """The files that were skipped, and why.

    Attributes:
        faults: The fault of each bad file by its path.
        total: The number of files examined, bad ones included.
        max_fraction: The fraction of bad files above which `check` raises, 0 to 1.
    """

    def __init__(self, max_fraction: float = 0.01):
        if not 0 <= max_fraction <= 1:
            raise ValueError(
                "The largest fraction of bad pictures must be from 0 to 1. Received: "
                f"{max_fraction}"
            )
        self.faults: dict[str, str] = {}
        self.total = 0
        self.max_fraction = max_fraction
        self._logs: dict[Path, Callable[[int, int], str]] = {}

    def __len__(self) -> int:
        return len(self.report())

    def add(self, path: str | Path, fault: str) -> None:
        """Adds a bad file; the first fault found for a file is kept."""
        self.faults.setdefault(str(path), fault)

    @property
    def too_many(self) -> bool:
        """Whether more files are bad than `max_fraction` allows."""
        return len(self) > self.max_fraction * self.total

    def check(self, max_fraction: float | None = None) -> None:
        """Raises a `ValueError` that names bad files if they exceed the limit."""
        limit = self.max_fraction if max_fraction is None else max_fraction
        if len(self) > limit * self.total:
            raise ValueError(
                f"{len(self)} of {self.total} files are damaged or not pictures, more "
                f"than the limit of {limit:.1%}; repair or remove them, or raise the "
                f"limit with max_bad_fraction (--max-bad-fraction): {self.listed()}"
            )

    def listed(self, most: int = 5) -> str:
        """Lists the first few with their faults, in one line."""
        return list_names([f"{x['file']}: {x['fault']}" for x in self.report()], most)

    def report(self) -> list[dict[str, str]]:
        """Returns all of them for JSON, each as `{"file": ..., "fault": ...}`."""
        for path in self._paths_of_gaps():
            if path not in self.faults and (fault := decoding_fault(path)) is not None:
                self.add(path, fault)
        return [{"file": path, "fault": fault} for path, fault in self.faults.items()]

    def _paths_of_gaps(self) -> Iterator[str]:
        """Yields the files that pipelines have skipped since the last call."""
        for log, path_of in self._logs.items():
            if log.exists():
                reading = log.replace(log.with_suffix(".reading"))
                for line in reading.read_text().splitlines():
                    draw, last, place = map(int, line.split())
                    yield from (path_of(draw, gap) for gap in range(last + 1, place))

    def skip_bad(
        self, dataset: tf.data.Dataset, path_of: Callable[[int, int], str]
    ) -> tf.data.Dataset:
        """Leaves out the examples that fail, and finds out which files they were.

        An example is `(draw, place, ...)`: a number that identifies the epoch's order,
        and the place in it, from 0. `path_of` returns the file for both.
        """
        # Examples are numbered before decoding and undecodable ones dropped, so a
        # missing number identifies a bad file. A Python callback would serialize the
        # pipeline; `tf.print` to a temporary file does not.
        log = self._directory / f"{len(self._logs)}.gaps"
        self._logs[log] = path_of

        def compare(last: tf.Tensor, example: tuple) -> tuple:
            draw, place, *rest = example
            if place > last + 1:
                tf.print(draw, last, place, output_stream=f"file://{log}")
            return place, (draw, place, *rest)

        dataset = dataset.ignore_errors().scan(tf.constant(-1, tf.int64), compare)
        dataset.bad = self  # keeps the temporary folder as long as the dataset
        return dataset

    @functools.cached_property
    def _directory(self) -> Path:
        """A temporary folder, removed with the last reference to this object."""
        directory = Path(tempfile.mkdtemp(prefix="keras-inception-"))
        weakref.finalize(self, shutil.rmtree, directory, True)
        return directory
