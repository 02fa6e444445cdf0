"""TensorBoard's event files: writing them, and removing their last steps."""

from pathlib import Path
from typing import Any

import numpy as np


class EventFiles:
    """Writes TensorBoard's event files below one directory.

    TensorBoard calls a directory of event files a run, and draws the same tag of
    several runs into one chart. Curves to be compared (`main` and `aux_4a`, `train` and
    `validation`) are therefore written under the same tag into different runs.
    """

    def __init__(self, log_dir: str | Path):
        try:
            import tensorflow.summary as tf_summary
        except ImportError as error:
            raise ImportError(
                "TensorBoard's event files are written by TensorFlow, which is not "
                "installed. Run: pip install tensorflow"
            ) from error
        self.log_dir = Path(log_dir)
        self._summary = tf_summary
        self._writers: dict[str, Any] = {}

    def writer(self, run: str) -> Any:
        """Returns the `tf.summary` writer of a run (`""`: of `log_dir` itself)."""
        if run not in self._writers:
            path = str(self.log_dir / run)
            self._writers[run] = self._summary.create_file_writer(path)
        return self._writers[run]

    def scalar(self, run: str, tag: str, value: float, step: int) -> None:
        """Writes one point of a curve."""
        with self.writer(run).as_default(step):
            self._summary.scalar(tag, value)

    def histogram(self, run: str, tag: str, values: np.ndarray, step: int) -> None:
        """Writes the distribution of some values."""
        with self.writer(run).as_default(step):
            self._summary.histogram(tag, values)

    def image(self, run: str, tag: str, picture: np.ndarray, step: int) -> None:
        """Writes one picture, uint8 `(height, width, 3)`."""
        with self.writer(run).as_default(step):
            self._summary.image(tag, picture[None])

    def flush(self) -> None:
        """Writes everything to disk, where TensorBoard reads it."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


def cut_back(directory: str | Path, last_step: int) -> None:
    """Removes the events after `last_step`, before a run resumes from there.

    A killed run may have logged more than its checkpoint holds, and will log it again.
    Subdirectories are left alone, since their steps may count something else.
    """
    import tensorflow as tf
    from tensorboard.compat.proto.event_pb2 import Event

    for path in Path(directory).glob("events.out.tfevents.*"):
        kept, surplus = [], False
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                if Event.FromString(record).step > last_step:
                    surplus = True
                else:
                    kept.append(record)
        except tf.errors.DataLossError:  # the run was killed within the last record
            surplus = True
        if surplus:
            partial = path.with_name(f".partial-{path.name}")
            with tf.io.TFRecordWriter(str(partial)) as writer:
                for record in kept:
                    writer.write(record)
            partial.replace(path)
