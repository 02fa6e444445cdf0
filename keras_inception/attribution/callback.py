"""`LossAttribution`: an account of who moved the weights, kept while a model trains."""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_inception.attribution.ledger import Ledger
from keras_inception.attribution.rows import AttributionRow, rows_of
from keras_inception.attribution.step import make_train_step
from keras_inception.event_files import EventFiles, cut_back
from keras_inception.graph import is_distributed
from keras_inception.optimizers import LayerwiseSGD
from keras_inception.supervision import DeeplySupervised

TAGS = {"attribution_share": "share", "attribution_path_share": "path_share"}


class LossAttribution(keras.callbacks.Callback):
    """Keeps an exact account of how far each loss moves the weights of each stage.

    For SGD, plain or with momentum (Nesterov's too), the displacement of a weight is a
    sum of one part for each loss. This callback replaces the training step by one that
    backpropagates each loss separately and keeps a displacement and a velocity for
    each: the parts add up to the displacement of the weights, up to rounding. Learning
    rate schedules, changing loss weights, weight decay, and clipping by norm are taken
    into account.

    A training step costs 1.5 to 2.5 times as much. Memory: two numbers for each weight
    and each loss that reaches it (one without momentum).

    Works on the TensorFlow and JAX backends, on one device.

    Args:
        log_dir: TensorBoard's directory for this training: after each epoch the shares
            of the training so far are logged below `LOG_DIR/attribution`, where each
            loss is a run. Defaults to `None`: nothing is logged.
        state: The account of an interrupted training, from `state()`; `None` (default)
            to begin one.

    Attributes:
        rows: The account in numbers, a list of `AttributionRow`, after each epoch.

    Raises:
        ValueError: When training begins, if the model is not `DeeplySupervised`, or its
            optimizer's update is not linear in the gradient.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=("inception_4a",))
    >>> model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    >>> images, labels = np.zeros((2, 64, 64, 3)), np.array([0, 1])
    >>> account = LossAttribution()
    >>> history = model.fit(images, labels, callbacks=[account], verbose=0)
    >>> account.rows[0].stage, account.rows[0].loss, account.rows[1].loss
    ('conv1_7x7_s2', 'main', 'aux_4a')
    """

    def __init__(
        self,
        log_dir: str | Path | None = None,
        state: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__()
        self.log_dir = log_dir
        self.rows: list[AttributionRow] = []
        self._state = state
        self._ledger: Ledger | None = None

    def set_model(self, model: keras.Model) -> None:
        # Keras makes the compiled step between this and on_train_begin.
        super().set_model(model)
        _check(model)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        model.attribution_ledger = self._ledger = Ledger(model)
        for name, values in (self._state or {}).items():
            self._variables()[name].assign(values)
        model.train_step = make_train_step(model, self._ledger)
        model.train_function = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self.log_dir is not None and not self.rows and epoch:
            for run in Path(self.log_dir, "attribution").glob("*"):
                cut_back(run, epoch)  # the training resumes

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # Asking for `self.model` brings its variables up to date on JAX.
        self.rows = rows_of(self.model.attribution_ledger)
        if self.log_dir is None:
            return
        event_files = EventFiles(Path(self.log_dir, "attribution"))
        for row in self.rows:
            for tag, field in TAGS.items():
                tag = f"{tag}/{row.stage}"
                event_files.scalar(row.loss, tag, getattr(row, field), epoch + 1)
        event_files.close()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.rows = rows_of(self.model.attribution_ledger)
        del self.model.train_step  # the class's own again
        self.model.train_function = None

    def state(self) -> dict[str, np.ndarray]:
        """The account as arrays, for `LossAttribution(state=...)` to continue it."""
        _ = self.model  # brings its variables up to date, as in `on_epoch_end`
        return {
            name: ops.convert_to_numpy(variable)
            for name, variable in self._variables().items()
        }

    def _variables(self) -> dict[str, keras.Variable]:
        assert self._ledger is not None
        return {variable.name: variable for variable in self._ledger.variables}


def _check(model: keras.Model) -> None:
    """Raises a `ValueError` where the parts would not add up."""
    if not isinstance(model, DeeplySupervised):
        raise ValueError(
            "LossAttribution needs a DeeplySupervised model, as GoogLeNet() and "
            f"attach_auxiliary() make. Received: {type(model).__name__}"
        )
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise ValueError(
            "LossAttribution works on the TensorFlow and JAX backends. Keras runs on: "
            f"{keras.backend.backend()}"
        )
    optimizer = model.optimizer
    reasons = {
        f"{type(optimizer).__name__} is not SGD, whose steps are a sum of one part for "
        "each loss": type(optimizer) not in (keras.optimizers.SGD, LayerwiseSGD),
        "clipvalue cuts each entry of the gradient by itself": getattr(
            optimizer, "clipvalue", None
        ),
        "gradients are accumulated over several steps": getattr(
            optimizer, "gradient_accumulation_steps", None
        ),
        "the averages of the weights replace them": getattr(
            optimizer, "ema_overwrite_frequency", None
        ),
        "losses are scaled": getattr(optimizer, "loss_scale_factor", None),
        "weights have constraints": any(
            variable.constraint is not None for variable in model.trainable_variables
        ),
        "several devices share each batch": is_distributed(model),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise ValueError(
            f"Losses can't be told apart here: {'; '.join(found)}. Use "
            "keras.optimizers.SGD or keras_inception.optimizers.LayerwiseSGD, in "
            "float32 or bfloat16, on one device."
        )
