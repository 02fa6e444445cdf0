"""A run in TensorBoard: every output's curves, and what the outputs say of pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_inception.event_files import EventFiles, cut_back
from keras_inception.graph import layer_of
from keras_inception.outputs import MAIN
from keras_inception.supervision import DeeplySupervised

RIGHT, WRONG = "#007a53", "#c0392b"


class TensorBoard(keras.callbacks.Callback):
    """Logs a `DeeplySupervised` model's training for TensorBoard.

    The runs `train` and `validation` below the directory share the tags `loss/OUTPUT`
    and `accuracy/OUTPUT` (any other metric likewise; `loss/total` is the weighted sum),
    so that all outputs stand in one group and both runs in one chart. `train` also has
    `loss_weight/HEAD`, `schedule/learning_rate` and, on TensorFlow, the graph.
    `validation` has the picture `examples/predictions`: some pictures with what every
    output says of them. The run's settings fill the HParams tab. The horizontal axis
    counts finished epochs. A run that goes on at a later epoch than the first
    (`initial_epoch`) loses what was logged behind it, and logs it anew.

    Args:
        log_dir: TensorBoard's directory for this run.
        images: Pictures to show with their predictions, for example 8; `None`
            (default) for none.
        labels: Their class indices.
        hparams: Settings to compare runs by: name to string, number or truth value, or
            to `None` for what only other runs have. TensorBoard has columns for the
            names that the first run it finds gives: give all the same ones.
        profile_steps: `(first, last)` training steps, from 1, to profile; TensorFlow
            only. Its tab needs the package `tensorboard-plugin-profile`. Defaults to
            `None`: no profile.

    Raises:
        ValueError: If the steps to profile are in the wrong order.
        ImportError: When training begins, if TensorFlow, which writes the files, is
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
                "profile_steps are the first and the last step, from 1. Received: "
                f"{tuple(profile_steps)}"
            )
        self.log_dir = Path(log_dir)
        self.images, self.labels = images, labels
        self.hparams = dict(hparams or {})
        self.profile_steps = profile_steps

    def on_train_begin(self, logs=None):
        self._summaries = EventFiles(self.log_dir)
        self._step, self._profiling, self._begun = 0, False, False

    def on_epoch_begin(self, epoch, logs=None):
        begun, self._begun = self._begun, True
        if epoch > 0:  # a resumed run has the settings and the graph already
            if not begun:
                for run in ("", "train", "validation"):
                    cut_back(self.log_dir / run, epoch)
            return
        if self.hparams:
            self._write_hparams()
        if keras.backend.backend() == "tensorflow":
            self._write_graph()

    def on_train_batch_begin(self, batch, logs=None):
        self._step += 1
        if self.profile_steps and self._step == self.profile_steps[0]:
            import tensorflow as tf

            tf.profiler.experimental.start(str(self.log_dir / "train"))
            self._profiling = True

    def on_train_batch_end(self, batch, logs=None):
        if self.profile_steps and self._step == self.profile_steps[1]:
            self._end_profile()

    def on_epoch_end(self, epoch, logs=None):
        done = epoch + 1
        for name, value in (logs or {}).items():
            if name == "learning_rate":  # from callbacks that change it; logged below
                continue
            run = "validation" if name.startswith("val_") else "train"
            tag = self._tag(name.removeprefix("val_"))
            self._summaries.scalar(run, tag, float(value), done)
        if isinstance(self.model, DeeplySupervised):
            for head, weight in self.model.auxiliary_weights.items():
                value = float(keras.ops.convert_to_numpy(weight))
                self._summaries.scalar("train", f"loss_weight/{head}", value, done)
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._summaries.scalar("train", "schedule/learning_rate", rate, done)
        if self.images is not None:
            picture = draw_predictions(self.model, self.images, self.labels)
            self._summaries.image("validation", "examples/predictions", picture, done)
        self._summaries.flush()

    def on_train_end(self, logs=None):
        self._end_profile()  # if there were fewer steps
        self._summaries.close()

    def _end_profile(self):
        if self._profiling:
            import tensorflow as tf

            tf.profiler.experimental.stop()
            self._profiling = False

    def _tag(self, log: str) -> str:
        """`main_accuracy` as `accuracy/main`; what no output owns is the total's."""
        for output in self.model.output:
            if log.startswith(f"{output}_"):
                return f"{log.removeprefix(f'{output}_')}/{output}"
        return f"{log}/total"

    def _write_hparams(self):
        from tensorboard.plugins.hparams import api

        shown = [("accuracy/main", "validation accuracy"), ("loss/main", "main loss")]
        with self._summaries.writer("").as_default():
            # Named here, or TensorBoard offers every curve of the run as a metric.
            api.hparams_config(
                hparams=[api.HParam(name) for name in self.hparams],
                metrics=[
                    api.Metric(tag, group="validation", display_name=name)
                    for tag, name in shown
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

        # Keras writes a summary of its own that TensorBoard can't draw for outputs by
        # name.
        graph = network.get_concrete_function(*shapes).graph
        with self._summaries.writer("train").as_default(0):
            tf.summary.graph(graph)


def draw_predictions(
    model: DeeplySupervised, images: np.ndarray, labels: Sequence[int]
) -> np.ndarray:
    """Pictures with the likeliest class of every output, right ones in green.

    Args:
        model: A model whose outputs are probabilities by name.
        images: Raw RGB pixels 0..255 `(pictures, height, width, 3)`.
        labels: Class indices; a head with superclasses is held to the coarser class.

    Returns:
        uint8 `(height, width, 3)`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    outputs = model.predict_on_batch(images)
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    height = 2.1 + 0.2 * len(outputs)
    figure = Figure(figsize=(2.5 * columns, height * rows), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for index, (axes, image) in enumerate(zip(grid, images, strict=False)):
        axes.imshow(np.clip(image, 0, 255).astype("uint8"))
        label = int(labels[index])
        axes.set_title(_class_name(model, MAIN, label), fontsize=10)
        for line, (name, probabilities) in enumerate(_in_order(model, outputs)):
            best = int(np.argmax(probabilities[index]))
            right = best == _own_label(model, name, label)
            axes.text(
                0.5,
                -0.05 - 0.12 * line,
                f"{name}: {_class_name(model, name, best)} "
                f"{float(probabilities[index][best]):.2f}",
                color=RIGHT if right else WRONG,
                transform=axes.transAxes,
                horizontalalignment="center",
                verticalalignment="top",
                fontsize=9,
            )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _in_order(model, outputs):
    """The outputs in network order: JAX sorts them by name."""
    return [(name, np.asarray(outputs[name])) for name in model.output]


def _layer(model, output):
    return layer_of(model.output[output])


def _own_label(model, output: str, label: int) -> int:
    layer = _layer(model, output)
    if not hasattr(layer, "own_labels"):
        return label
    return int(np.asarray(layer.own_labels(np.array([label]))).ravel()[0])


def _class_name(model, output: str, index: int) -> str:
    names = model.output_class_names[output]
    return str(names[index]) if names else str(index)
