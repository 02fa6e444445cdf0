"""A run in TensorBoard: curves, settings, graph, and predictions of every output."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_inception.architecture import stage_of
from keras_inception.event_files import EventFiles, cut_back
from keras_inception.supervision import DeeplySupervised
from keras_inception.training.plots import draw_activation_maps, draw_predictions


class TensorBoard(keras.callbacks.Callback):
    """Logs a `DeeplySupervised` model's training for TensorBoard.

    The subdirectories `train` and `validation` share the tags `loss/OUTPUT` and
    `accuracy/OUTPUT` (other metrics likewise; `loss/total` is the weighted sum), so
    that one group holds all outputs and one chart both splits. `train` also has
    `loss_weight/OUTPUT`, `schedule/learning_rate` and, on TensorFlow, the graph.
    `validation` has the image `examples/predictions`: some pictures with every output's
    prediction; and, when training ends, `examples/maps`: where in them each output
    finds the class that it answers, if the outputs read feature maps. The settings fill
    the HParams tab. The horizontal axis counts finished epochs. A resumed run
    (`initial_epoch`) drops what was logged after that epoch.

    Args:
        log_dir: TensorBoard's directory for this run.
        images: Pictures to show with their predictions, for example 8; `None`
            (default) for none.
        labels: Their class indices.
        hparams: Settings to compare runs by: name to string, number or bool; `None` for
            a setting that only other runs have. TensorBoard takes its columns from the
            first run it finds, so every run should have the same names.
        profile_steps: `(first, last)` training steps to profile, from 1; TensorFlow
            only. The profile tab needs the package `tensorboard-plugin-profile`.
            Defaults to `None`: no profile.

    Raises:
        ValueError: If the steps to profile are in the wrong order.
        ImportError: When training begins, if TensorFlow, which writes event files, is
            not installed.

    Example:
    >>> import tempfile
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=("inception_4a",))
    >>> model.compile("sgd")
    >>> images, labels = np.zeros((2, 64, 64, 3)), np.array([0, 1])
    >>> board = TensorBoard(tempfile.mkdtemp(), images, labels, {"width": 1.0})
    >>> history = model.fit(images, labels, callbacks=[board], verbose=0)
    """

    def __init__(
        self,
        log_dir: str | Path,
        images: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        hparams: Mapping[str, str | float | bool | None] | None = None,
        profile_steps: tuple[int, int] | None = None,
    ):
        super().__init__()
        if profile_steps and not 1 <= profile_steps[0] <= profile_steps[1]:
            raise ValueError(
                "profile_steps must be (first, last) with 1 <= first <= last. "
                f"Received: {tuple(profile_steps)}"
            )
        self.log_dir = Path(log_dir)
        self.images, self.labels = images, labels
        self.hparams = dict(hparams or {})
        self.profile_steps = profile_steps

    def on_train_begin(self, logs: Any = None) -> None:
        self._events = EventFiles(self.log_dir)
        self._step, self._profiling, self._begun = 0, False, False
        self._epochs_done = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        begun, self._begun = self._begun, True
        if epoch > 0:  # a resumed run has already logged its settings and graph
            if not begun:
                for run in ("", "train", "validation"):
                    cut_back(self.log_dir / run, epoch)
            return
        if self.hparams:
            self._write_hparams()
        if keras.backend.backend() == "tensorflow":
            self._write_graph()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._step += 1
        if self.profile_steps and self._step == self.profile_steps[0]:
            import tensorflow as tf

            tf.profiler.experimental.start(str(self.log_dir / "train"))
            self._profiling = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.profile_steps and self._step == self.profile_steps[1]:
            self._end_profile()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epochs_done = done = epoch + 1
        for name, value in (logs or {}).items():
            if name == "learning_rate":  # from callbacks that change it; logged below
                continue
            run = "validation" if name.startswith("val_") else "train"
            tag = self._tag(name.removeprefix("val_"))
            self._events.scalar(run, tag, float(value), done)
        if isinstance(self.model, DeeplySupervised):
            for output, weight in self.model.auxiliary_weights.items():
                value = float(keras.ops.convert_to_numpy(weight))
                self._events.scalar("train", f"loss_weight/{output}", value, done)
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._events.scalar("train", "schedule/learning_rate", rate, done)
        if self.images is not None and self.labels is not None:
            picture = draw_predictions(self.model, self.images, self.labels)
            self._events.image("validation", "examples/predictions", picture, done)
        self._events.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._end_profile()  # if there were fewer steps
        if self._epochs_done and self.images is not None and self.labels is not None:
            with contextlib.suppress(ValueError):  # no feature map, or not finite
                picture = draw_activation_maps(self.model, self.images, self.labels)
                run, tag = "validation", "examples/maps"
                self._events.image(run, tag, picture, self._epochs_done)
        self._events.close()

    def _end_profile(self):
        if self._profiling:
            import tensorflow as tf

            tf.profiler.experimental.stop()
            self._profiling = False

    def _tag(self, log: str) -> str:
        """`main_accuracy` as `accuracy/main`; a log of no output is the total's."""
        # the longest match: aux_lstm_1_loss belongs to aux_lstm_1, not to aux_lstm
        output = stage_of(log, self.model.output)
        if output is None:
            return f"{log}/total"
        return f"{log.removeprefix(f'{output}_')}/{output}"

    def _write_hparams(self):
        from tensorboard.plugins.hparams import api

        metrics = [("accuracy/main", "validation accuracy"), ("loss/main", "main loss")]
        with self._events.writer("").as_default():
            # Without this list TensorBoard offers every curve of the run as a metric.
            api.hparams_config(
                hparams=[api.HParam(name) for name in self.hparams],
                metrics=[
                    api.Metric(tag, group="validation", display_name=name)
                    for tag, name in metrics
                ],
            )
            api.hparams({n: v for n, v in self.hparams.items() if v is not None})

    def _write_graph(self):
        import tensorflow as tf

        shapes = [
            tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name.replace(":", "_"))
            for tensor in self.model.inputs
        ]

        @tf.function
        def network(*inputs):
            return self.model(inputs[0] if len(inputs) == 1 else inputs)

        # TensorBoard cannot draw the graph that Keras writes for a dict of outputs.
        graph = network.get_concrete_function(*shapes).graph
        with self._events.writer("train").as_default(0):
            tf.summary.graph(graph)
