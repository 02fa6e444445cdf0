"""Pictures between two segments."""

import numpy as np
from keras import ops


class BatchQueue:
    """Pictures that wait for a segment until they fill a batch.

    A segment answers most pictures; run on the few that are left of each batch it would
    spend its time on starting operations.
    """

    def __init__(self):
        self._rows, self._tensors = np.empty(0, int), {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: np.ndarray, tensors: dict) -> None:
        """Puts pictures at the end: their places in the answer, what they bring."""
        if len(self):
            tensors = {
                name: ops.concatenate([self._tensors[name], more])
                for name, more in tensors.items()
            }
        self._rows, self._tensors = np.concatenate([self._rows, rows]), tensors

    def take(self, count: int) -> tuple[np.ndarray, dict]:
        """The first `count` pictures, or all if there are no more."""
        rows, tensors = self._rows, self._tensors
        if count >= len(rows):
            self.__init__()
            return rows, tensors
        self._rows = rows[count:]
        self._tensors = {name: value[count:] for name, value in tensors.items()}
        return rows[:count], {name: value[:count] for name, value in tensors.items()}
