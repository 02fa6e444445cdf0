"""Gradient flow in TensorBoard while a model trains."""

from pathlib import Path

import keras
import numpy as np

from keras_inception.event_files import EventFiles, cut_back
from keras_inception.gradients.flow import GradientRow, Labels, Probe

FIELD_BY_TAG = {
    "gradient_norm": "norm",
    "gradient_relative_norm": "relative_norm",
    "gradient_zero_fraction": "zero_fraction",
    "gradient_cosine_to_main": "cosine_to_main",
}


class GradientFlow(keras.callbacks.Callback):
    """Logs to TensorBoard how much gradient each stage gets from each loss.

    Each loss (`main`, each head, `total`) is a TensorBoard run below
    `LOG_DIR/gradients`, so that a stage's chart shows all losses. The tags are
    `gradient_norm/STAGE`, `gradient_relative_norm/STAGE`,
    `gradient_zero_fraction/STAGE`, `gradient_cosine_to_main/STAGE`, and optionally the
    histogram `gradient/STAGE`. Stages that a loss does not reach are left out.

    The model is measured before the first step and then every so many epochs or steps,
    always on the same few pictures. A training that resumes (`initial_epoch` above 0)
    first removes what was logged after that point.

    Args:
        images, labels: As in `gradient_flow`, for example 16 pictures.
        log_dir: TensorBoard's directory for this training.
        every_epochs: Epochs between measurements. Defaults to 1. The charts' horizontal
            axis counts epochs.
        every_steps: Training steps between measurements, instead of epochs; the axis
            then counts steps. Defaults to None.
        histograms: Whether to log histograms of each gradient's entries as well.
            Defaults to False.
        training: As in `gradient_flow`. Defaults to False.

    Raises:
        ValueError: If `every_epochs` or `every_steps` is below 1; and the errors of
            `gradient_flow`, when training begins.
        ImportError: When training begins, if TensorFlow is not installed.

    Example:
    >>> import tempfile
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=("inception_4a",))
    >>> model.compile("sgd")
    >>> images, labels = np.zeros((2, 64, 64, 3)), np.array([0, 1])
    >>> seen = GradientFlow(images, labels, tempfile.mkdtemp())
    >>> history = model.fit(images, labels, callbacks=[seen], verbose=0)
    >>> seen.rows[0].stage, seen.rows[0].loss
    ('conv1_7x7_s2', 'main')
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: Labels,
        log_dir: str | Path,
        every_epochs: int = 1,
        every_steps: int | None = None,
        histograms: bool = False,
        training: bool = False,
    ):
        super().__init__()
        periods = {"every_epochs": every_epochs, "every_steps": every_steps}
        for name, period in periods.items():
            if period is not None and period < 1:
                raise ValueError(f"{name} must be at least 1. Received: {period}")
        self.images, self.labels = images, labels
        self.log_dir = Path(log_dir)
        self.every_epochs, self.every_steps = every_epochs, every_steps
        self.histograms, self.training = histograms, training
        self.rows: list[GradientRow] = []  # of the last measurement

    def on_train_begin(self, logs: dict | None = None) -> None:
        # Opened only here, since tuners copy callbacks and open files cannot be copied.
        self._event_files = EventFiles(self.log_dir / "gradients")
        self._in_first_epoch = True
        self._probe = Probe(self.model, self.training, compiled=True)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch == 0:
            self._measure(0)
        elif self._in_first_epoch:  # the training resumes
            last = epoch if self.every_steps is None else self._steps_done()
            for run in self._event_files.log_dir.glob("*"):
                cut_back(run, last)
        self._in_first_epoch = False

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.every_steps is not None and self._steps_done() % self.every_steps == 0:
            self._measure(self._steps_done())

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.every_steps is None and (epoch + 1) % self.every_epochs == 0:
            self._measure(epoch + 1)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._event_files.close()

    def _steps_done(self) -> int:
        return int(self.model.optimizer.iterations)

    def _measure(self, step: int) -> None:
        # Asking for `self.model` brings its variables up to date on JAX.
        self._probe.model = self.model
        self.rows = self._probe(self.images, self.labels)
        for row in self.rows:
            if row.norm == 0:  # the loss does not reach this stage
                continue
            for tag, field in FIELD_BY_TAG.items():
                value = getattr(row, field)
                if value is not None:
                    tag = f"{tag}/{row.stage}"
                    self._event_files.scalar(row.loss, tag, value, step)
        if self.histograms:
            gradients = self._probe.gradients(self.images, self.labels)
            for (stage, loss), entries in gradients.items():
                self._event_files.histogram(loss, f"gradient/{stage}", entries, step)
        self._event_files.flush()
