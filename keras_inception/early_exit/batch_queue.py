"""Pictures that wait between two segments until they fill a batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_inception.backend import compiles_each_batch_size


class BatchQueue:
    """A queue of pictures before a segment.

    Few pictures of a batch reach the later segments. On so few a segment would spend
    its time on starting operations, so they wait for more. A picture is its row in the
    answer, and a row of each tensor that later segments need.
    """

    def __init__(self) -> None:
        self._rows: np.ndarray = np.empty(0, int)
        self._tensors: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: np.ndarray, tensors: Mapping[int, Any]) -> None:
        """Appends pictures: their rows in the answer, and their tensors by identity."""
        if len(self):
            old = self._tensors
            tensors = {k: ops.concatenate([old[k], new]) for k, new in tensors.items()}
        self._rows = np.concatenate([self._rows, rows])
        self._tensors = dict(tensors)

    def take(self, count: int) -> tuple[np.ndarray, dict[int, Any]]:
        """Removes and returns the first `count` pictures, or all if there are fewer."""
        rows, tensors = self._rows, self._tensors
        if count >= len(rows):
            self._rows, self._tensors = rows[:0], {}
            return rows, tensors
        self._rows = rows[count:]
        self._tensors = {key: tensor[count:] for key, tensor in tensors.items()}
        return rows[:count], {key: tensor[:count] for key, tensor in tensors.items()}


def padded(values: np.ndarray) -> np.ndarray:
    """Repeats the last value up to a power of two, on backends that compile each size.

    Those then compile a few sizes only. On the others it returns the values unchanged.
    """
    if not compiles_each_batch_size():
        return values
    surplus = 2 ** int(np.ceil(np.log2(len(values)))) - len(values)
    return np.concatenate([values, np.repeat(values[-1:], surplus, axis=0)])
