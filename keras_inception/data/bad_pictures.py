"""Picture files that can't be decoded: skipped, counted and named, up to a limit.

Most are found by `pictures.examine` before any is decoded, and reported by `add`. The
rest fail in the middle of a pipeline, which `skip_bad` makes continue without them.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from keras_inception.data.pictures import DAMAGED, examine, load_picture
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
        self._gaps: list[_Gaps] = []

    def __len__(self) -> int:
        self._read_gaps()
        return len(self.faults)

    def add(self, path: str | Path, fault: str) -> None:
        """Adds a bad file; the first fault found of a file is kept."""
        self.faults.setdefault(str(path), fault)

    @property
    def too_many(self) -> bool:
        """Whether more files are bad than `max_fraction` allows."""
        return len(self) > self.max_fraction * self.total

    def check(self, max_fraction: float | None = None) -> None:
        """Raises a `ValueError` that names bad files if there are too many of them.

        Args:
            max_fraction: A limit other than this object's, 0 to 1.
        """
        limit = self.max_fraction if max_fraction is None else max_fraction
        if len(self) > limit * self.total:
            raise ValueError(
                f"{len(self)} of {self.total} files are damaged or not pictures, more "
                f"than the limit of {limit:.1%}; repair or remove them, or raise the "
                f"limit with max_bad_fraction (--max-bad-fraction): {self.listed()}"
            )

    def listed(self, most: int = 5) -> str:
        """Lists the first few with their faults, in one line."""
        self._read_gaps()
        return list_names([f"{path}: {x}" for path, x in self.faults.items()], most)

    def report(self) -> list[dict[str, str]]:
        """Returns all of them for JSON, each as `{"file": ..., "fault": ...}`."""
        self._read_gaps()
        return [{"file": path, "fault": fault} for path, fault in self.faults.items()]

    def skip_bad(
        self, dataset: tf.data.Dataset, path_of: Callable[[int, int], str]
    ) -> tf.data.Dataset:
        """Leaves out the examples that fail, and finds out which files they were.

        Args:
            dataset: Elements `(draw, place, ...)`: a number that identifies the epoch's
                order, and the example's place in that order, counted from 0.
            path_of: Returns the file for a draw and a place.
        """
        # Examples are numbered before decoding and undecodable ones dropped, so a
        # missing number identifies a bad file. A Python callback would serialize the
        # pipeline; `tf.print` to a temporary file does not.
        gaps = _Gaps(path_of)
        self._gaps.append(gaps)

        def print_gap(last: tf.Tensor, draw: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            tf.print(draw, last, place, output_stream=f"file://{gaps.log}")
            return place

        def compare(last: tf.Tensor, example: tuple) -> tuple:
            draw, place, *rest = example
            seen = tf.cond(
                place > last + 1, lambda: print_gap(last, draw, place), lambda: place
            )
            with tf.control_dependencies([seen]):
                return place, (draw, tf.identity(place), *rest)

        dataset = dataset.ignore_errors().scan(tf.constant(-1, tf.int64), compare)
        dataset.gaps = gaps  # keeps the temporary file as long as the dataset
        return dataset

    def _read_gaps(self) -> None:
        for gaps in self._gaps:
            for path in gaps.read():
                self._add_if_damaged(path)

    def _add_if_damaged(self, path: str) -> None:
        if path in self.faults:
            return
        fault = examine(path).fault
        if fault is None:
            try:
                load_picture(path, 1)
            except ValueError:
                fault = DAMAGED
        if fault is not None:
            self.add(path, fault)


class _Gaps:
    """A temporary file for a pipeline's gaps, removed with the last reference."""

    def __init__(self, path_of: Callable[[int, int], str]):
        directory = Path(tempfile.mkdtemp(prefix="keras-inception-"))
        weakref.finalize(self, shutil.rmtree, directory, True)
        self.log = directory / "gaps.txt"
        self._path_of = path_of

    def read(self) -> list[str]:
        """Returns the files of the gaps since the last call."""
        if not self.log.exists():
            return []
        reading = self.log.with_suffix(".reading")
        self.log.replace(reading)  # later gaps are printed to a new file
        paths = []
        for line in reading.read_text().splitlines():
            draw, last, place = map(int, line.split())
            paths += [self._path_of(draw, gap) for gap in range(last + 1, place)]
        return paths
