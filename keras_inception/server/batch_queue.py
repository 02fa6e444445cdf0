"""Combines the rows of concurrent calls into batches, in the callers' own threads."""

import threading
from collections.abc import Callable

import numpy as np

from keras_inception.server.limits import Batching
from keras_inception.server.workers import check_time

Arrays = dict[str, np.ndarray]


class BatchQueue:
    """A function of arrays, all rows first, whose concurrent calls share batches.

    The first call of a batch leads it: it waits for others while all slots are taken,
    or else for `batching.micros`, then runs the function for all of them. After a batch
    of one call it does not wait for `micros`: a lone client would wait in vain each
    time. No thread of its own is kept, so that nothing is left when the model is
    unloaded. A batch that fails is run again call by call, because a damaged picture
    belongs to one of them.
    """

    def __init__(self, run: Callable[[Arrays], Arrays], batching: Batching):
        self._run = run
        self._batching = batching
        self._slots = threading.Semaphore(batching.threads)
        self._lock = threading.Lock()
        self._shared = True  # whether the last batch was of several calls
        self._open: _Batch | None = None

    def __call__(self, inputs: Arrays) -> Arrays:
        """The function's outputs for some rows."""
        rows, most = _rows(inputs), self._batching.rows
        if rows > most:
            return self._in_parts(inputs, rows)
        if rows == 0 or not self._batching.combine:
            return self._run(inputs)
        kind = {name: (a.dtype, a.shape[1:]) for name, a in inputs.items()}
        with self._lock:
            batch = self._open
            leads = batch is None or batch.kind != kind or batch.rows + rows > most
            if batch is None or leads:
                if batch is not None:
                    batch.full.set()
                batch = self._open = _Batch(kind)
            start = batch.add(inputs, rows)
            if batch.rows == most:
                batch.full.set()
        if leads:
            self._lead(batch)
        else:
            batch.done.wait()
        if batch.outputs is None:
            if len(batch.calls) == 1 and batch.error is not None:
                raise batch.error
            return self._run(inputs)
        return {name: a[start : start + rows] for name, a in batch.outputs.items()}

    def _in_parts(self, inputs: Arrays, rows: int) -> Arrays:
        """Runs a large request batch by batch, to bound its memory and its time."""
        parts = []
        for start in range(0, rows, self._batching.rows):
            check_time()
            part = slice(start, start + self._batching.rows)
            parts.append(self({name: array[part] for name, array in inputs.items()}))
        found = {name: [part[name] for part in parts] for name in parts[0]}
        sizes = {sum(len(a) if a.ndim else 0 for a in f) for f in found.values()}
        if sizes != {rows}:
            return self._run(inputs)
        return {name: np.concatenate(arrays) for name, arrays in found.items()}

    def _lead(self, batch: "_Batch") -> None:
        try:
            if self._slots.acquire(blocking=False):
                if self._shared:
                    batch.full.wait(self._batching.micros / 1e6)
            else:
                self._slots.acquire()
            try:
                with self._lock:
                    if self._open is batch:
                        self._open = None
                    self._shared = len(batch.calls) > 1
                outputs = self._run(batch.inputs())
            finally:
                self._slots.release()
            if all(np.shape(a)[:1] == (batch.rows,) for a in outputs.values()):
                batch.outputs = outputs
        except Exception as error:  # each call raises its own
            batch.error = error
        finally:
            batch.done.set()


class _Batch:
    """Calls that are gathered to run together."""

    def __init__(self, kind: dict):
        self.kind = kind  # dtype and shape of a row, by input
        self.rows = 0
        self.calls: list[Arrays] = []
        self.full, self.done = threading.Event(), threading.Event()
        self.outputs: Arrays | None = None
        self.error: Exception | None = None

    def add(self, inputs: Arrays, rows: int) -> int:
        """Adds a call and returns the index of its first row."""
        start, self.rows = self.rows, self.rows + rows
        self.calls.append(inputs)
        return start

    def inputs(self) -> Arrays:
        if len(self.calls) == 1:
            return self.calls[0]
        return {
            name: np.concatenate([c[name] for c in self.calls]) for name in self.kind
        }


def _rows(inputs: Arrays) -> int:
    """The number of rows, or 0 where the inputs do not agree on one."""
    sizes = {len(array) if array.ndim else 0 for array in inputs.values()}
    return sizes.pop() if len(sizes) == 1 else 0
