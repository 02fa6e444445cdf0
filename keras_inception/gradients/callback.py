"""Gradient flow in TensorBoard while a model trains."""

from pathlib import Path

import keras

from keras_inception.event_files import EventFiles, cut_back
from keras_inception.gradients.flow import GradientRow, Probe

GROUPS = {
    "gradient_norm": "norm",
    "gradient_relative_norm": "relative_norm",
    "gradient_zero_fraction": "zero_fraction",
    "gradient_cosine_to_main": "cosine_to_main",
}


class GradientFlow(keras.callbacks.Callback):
    """Logs to TensorBoard how much gradient each stage gets from each loss.

    Each loss (`main`, each head, `total`) is a run of its own below
    `LOG_DIR/gradients`, so that a stage's chart shows them together. The tags are
    `gradient_norm/STAGE`, `gradient_relative_norm/STAGE`,
    `gradient_zero_fraction/STAGE` and `gradient_cosine_to_main/STAGE`, and on request
    the histogram `gradient/STAGE`. Stages that a loss does not reach are left out.

    The model is measured before the first step (at 0) and then after every so many
    epochs or steps, always on the same pictures: a handful is enough, and costs little
    beside an epoch. A run that goes on at a later epoch than the first
    (`initial_epoch`) loses what was logged behind it, and logs it anew.

    Args:
        images: A batch of what the model takes, for example 16 pictures.
        labels: Their labels, as `gradient_flow` takes them.
        log_dir: TensorBoard's directory for this run.
        every_epochs: After how many epochs to measure. Defaults to 1. The charts'
            horizontal axis counts epochs.
        every_steps: If given, after how many training steps instead; the axis counts
            steps.
        histograms: Whether to log how each gradient's entries are spread as well.
            Defaults to False.
        training: See `gradient_flow`. Defaults to False.

    Raises:
        ValueError: If `every_epochs` or `every_steps` is below 1; when training begins,
            what `gradient_flow` raises.
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
        images,
        labels,
        log_dir: str | Path,
        every_epochs: int = 1,
        every_steps: int | None = None,
        histograms: bool = False,
        training: bool = False,
    ):
        super().__init__()
        for name, value in (
            ("every_epochs", every_epochs),
            ("every_steps", every_steps),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {value}")
        self.images, self.labels = images, labels
        self.log_dir = Path(log_dir)
        self.every_epochs, self.every_steps = every_epochs, every_steps
        self.histograms, self.training = histograms, training
        self.rows: list[GradientRow] = []  # the last measurement

    def on_train_begin(self, logs=None):
        # Opened here, not before: tuners copy callbacks, and no copy has open files.
        self._summaries = EventFiles(self.log_dir / "gradients")
        self._begun = False
        self._probe = Probe(self.model, self.training, compiled=True)

    def on_epoch_begin(self, epoch, logs=None):
        begun, self._begun = self._begun, True
        if epoch == 0:
            self._measure(0)
        elif not begun:
            steps = self.every_steps is not None
            last = int(self.model.optimizer.iterations) if steps else epoch
            for loss in self._summaries.log_dir.glob("*"):
                cut_back(loss, last)

    def on_train_batch_end(self, batch, logs=None):
        if self.every_steps is not None:
            step = int(self.model.optimizer.iterations)
            if step % self.every_steps == 0:
                self._measure(step)

    def on_epoch_end(self, epoch, logs=None):
        if self.every_steps is None and (epoch + 1) % self.every_epochs == 0:
            self._measure(epoch + 1)

    def on_train_end(self, logs=None):
        self._summaries.close()

    def _measure(self, step: int):
        # Asking for `self.model` brings its variables up to date on JAX.
        self._probe.model = self.model
        self.rows = self._probe(self.images, self.labels)
        for row in self.rows:
            if row.norm == 0:
                continue  # the loss does not reach this stage
            for group, field in GROUPS.items():
                value = getattr(row, field)
                if value is not None:
                    self._summaries.scalar(
                        row.loss, f"{group}/{row.stage}", value, step
                    )
        if self.histograms:
            gradients = self._probe.gradients(self.images, self.labels)
            for (stage, loss), values in gradients.items():
                self._summaries.histogram(loss, f"gradient/{stage}", values, step)
        self._summaries.flush()
