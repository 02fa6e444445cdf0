"""Pictures that can't be decoded: skipped, counted and named, up to a limit."""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from keras_inception.data.pictures import examine, load_picture


class BadPictures:
    """What was skipped and why.

    Attributes:
        faults: What is wrong with each bad file, by its path.
        total: How many files were looked at, bad ones included.
        max_fraction: The share of bad files above which `check` raises.
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
        """Names a bad file."""
        self.faults.setdefault(str(path), fault)

    @property
    def too_many(self) -> bool:
        """Whether more are bad than `max_fraction` allows."""
        return len(self) > self.max_fraction * self.total

    def check(self) -> None:
        """Raises a `ValueError` that names bad files if there are too many of them."""
        if self.too_many:
            raise ValueError(
                f"{len(self)} of {self.total} files are no pictures or damaged, more "
                f"than {self.max_fraction:.1%}; mend or remove them, or allow more "
                f"with max_bad_fraction (--max-bad-fraction): {self.listed()}"
            )

    def listed(self, most: int = 5) -> str:
        """The first few, each with its fault, in one line."""
        count = len(self)
        shown = [f"{path}: {fault}" for path, fault in self.faults.items()][:most]
        return "; ".join(shown) + ("; ..." if count > most else "")

    def report(self) -> list[dict[str, str]]:
        """All of them, for JSON."""
        self._read_gaps()
        return [{"file": path, "fault": fault} for path, fault in self.faults.items()]

    def skip_bad(
        self, dataset: tf.data.Dataset, path_of: Callable[[int, int], str]
    ) -> tf.data.Dataset:
        """Leaves out the examples that failed, and learns which they were.

        An operation in a graph can fail, but not say so to the rest of the pipeline.
        The places in the epoch's order are counted up, though: a gap betrays a picture.
        And a graph can't call Python: once operations must be deterministic, as in
        `train`, tf.data would run it without any parallelism. But it may print.

        Args:
            dataset: `(draw, place, ...)`: a number that stands for the epoch's order,
                and the example's place in it, from 0.
            path_of: Gives the file of a draw and a place.
        """
        gaps = _Gaps(path_of)
        self._gaps.append(gaps)

        def tell(last, draw, place):
            tf.print(draw, last, place, output_stream=f"file://{gaps.log}")
            return place

        def look(last, example):
            draw, place, *rest = example
            seen = tf.cond(
                place > last + 1, lambda: tell(last, draw, place), lambda: place
            )
            with tf.control_dependencies([seen]):
                return place, (draw, tf.identity(place), *rest)

        dataset = dataset.ignore_errors().scan(tf.constant(-1, tf.int64), look)
        dataset.gaps = gaps  # whichever of the two lives longer needs the file
        return dataset

    def _read_gaps(self) -> None:
        for gaps in self._gaps:
            for path in gaps.read():
                self._add_if_damaged(path)

    def _add_if_damaged(self, path: str) -> None:
        if path in self.faults:
            return
        _, _, fault = examine(path)
        if fault is None:
            try:
                load_picture(path, 1)
            except ValueError:
                fault = "its contents are damaged"
        if fault is not None:
            self.add(path, fault)


class _Gaps:
    """A file that a pipeline prints gaps to; removed with the last reference."""

    def __init__(self, path_of: Callable[[int, int], str]):
        directory = Path(tempfile.mkdtemp(prefix="keras-inception-"))
        weakref.finalize(self, shutil.rmtree, directory, True)
        self.log = directory / "gaps.txt"
        self._path_of = path_of

    def read(self) -> list[str]:
        """The files of the gaps since the last reading."""
        if not self.log.exists():
            return []
        reading = self.log.with_suffix(".reading")
        self.log.replace(reading)  # what is printed from now on goes to a new file
        paths = []
        for line in reading.read_text().splitlines():
            draw, last, place = map(int, line.split())
            paths += [self._path_of(draw, gap) for gap in range(last + 1, place)]
        return paths
