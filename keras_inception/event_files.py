"""Writing what TensorBoard shows, one writer per run of its charts."""

from pathlib import Path

import numpy as np


class EventFiles:
    """TensorBoard's event files below one directory.

    TensorBoard calls a directory of events a run and draws the same tag of several runs
    into one chart; so what shall be compared (`main` and `aux_4a`, `train` and
    `validation`) is written under one tag into runs of its own.

    Args:
        log_dir: Where the runs' directories are made.

    Raises:
        ImportError: If TensorFlow, which writes the files, is not installed.

    Example:
    >>> import tempfile
    >>> summaries = EventFiles(tempfile.mkdtemp())
    >>> summaries.scalar("train", "loss/main", 0.5, step=1)
    >>> summaries.close()
    """

    def __init__(self, log_dir: str | Path):
        try:
            # here, since the core runs without TensorFlow
            import tensorflow.summary as tf_summary
        except ImportError as error:
            raise ImportError(
                "TensorBoard's event files are written by TensorFlow, which is not "
                "installed: pip install tensorflow. On every backend gradient_flow() "
                "gives its figures without it."
            ) from error
        self.log_dir = Path(log_dir)
        self._summary = tf_summary
        self._writers = {}

    def writer(self, run: str):
        """The `tf.summary` writer of a run (`""`: the directory itself)."""
        if run not in self._writers:
            path = str(self.log_dir / run)
            self._writers[run] = self._summary.create_file_writer(path)
        return self._writers[run]

    def scalar(self, run: str, tag: str, value: float, step: int) -> None:
        """One point of a curve."""
        with self.writer(run).as_default(step):
            self._summary.scalar(tag, value)

    def histogram(self, run: str, tag: str, values: np.ndarray, step: int) -> None:
        """How values are spread."""
        with self.writer(run).as_default(step):
            self._summary.histogram(tag, values)

    def image(self, run: str, tag: str, picture: np.ndarray, step: int) -> None:
        """One picture: uint8 `(height, width, 3)`."""
        with self.writer(run).as_default(step):
            self._summary.image(tag, picture[None])

    def flush(self) -> None:
        """Puts everything on disk, where TensorBoard sees it."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Ends the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


def cut_back(directory: str | Path, last_step: int) -> None:
    """Removes what was logged behind a step, before a run goes on from there.

    A killed run may have logged more than its checkpoint knows, and will log it again.

    Args:
        directory: Whose event files are cut; not those of directories in it, which may
            count something else.
        last_step: The last step that is kept.
    """
    import tensorflow as tf
    from tensorboard.compat.proto.event_pb2 import Event

    for path in Path(directory).glob("events.out.tfevents.*"):
        kept, surplus = [], False
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                behind = Event.FromString(record).step > last_step
                surplus = surplus or behind
                if not behind:
                    kept.append(record)
        except tf.errors.DataLossError:  # killed while it wrote the last record
            surplus = True
        if surplus:
            partial = path.with_name(f".partial-{path.name}")
            with tf.io.TFRecordWriter(str(partial)) as writer:
                for record in kept:
                    writer.write(record)
            partial.replace(path)
