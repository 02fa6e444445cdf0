"""A training run: `fit` inside a run directory, so that a killed run can resume."""

import time
from collections.abc import Callable, Iterable, Sequence, Sized
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_inception.files import write_json
from keras_inception.graph import is_distributed
from keras_inception.supervision import DeeplySupervised
from keras_inception.training.alarms import Alarms
from keras_inception.training.callbacks import (
    MONITOR,
    History,
    KeepBest,
    KeepLatest,
)
from keras_inception.training.checkpoint import averages_weights
from keras_inception.training.on_features import ForWhole
from keras_inception.training.pace import Pace
from keras_inception.training.progress import Progress
from keras_inception.training.run_directory import RunConfig, RunDirectory
from keras_inception.training.stopping import INTERRUPTED, Stopping

_NOTHING_DONE: dict[str, Any] = {
    "epochs": 0,
    "history": [],
    "best": {},
    "alarms": {},
    "seconds": 0.0,
}


def train(
    model: DeeplySupervised,
    train_data: Any,
    validation_data: Iterable,
    run: RunDirectory,
    *,
    config: RunConfig,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    class_weight: dict[int, float] | None = None,
    report: Callable[[], dict] = dict,
    state: dict | None = None,
    patience: int | None = None,
    time_limit: float | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    rest: DeeplySupervised | None = None,
) -> dict[str, Any]:
    """Fits a compiled model inside a run directory.

    After each epoch `latest.keras` holds everything that the next one depends on. A
    killed run resumes at the beginning of the epoch it was in: call `train` again with
    the model and the state of `run.checkpoint()`, and `train_data` in the order of that
    epoch.

    Args:
        model: A compiled `DeeplySupervised` model.
        train_data: Batches of `(images, labels)` in training order, as from
            `data.load`.
        validation_data: Batches of the validation split.
        run: From `RunDirectory.create`, or `RunDirectory.open` to resume.
        config: The run's settings, for `config.json`. `config.epochs`
            counts all epochs, those before a kill included.
        callbacks: More Keras callbacks, for example `TensorBoard(run.tensorboard)`.
        class_weight: A weight for the losses of each class, as in `fit`.
        report: Called at the end; its result is added to `result.json`.
        state: The checkpoint's state, to resume; `None` (default) for a new run.
        patience: Epochs without a better `val_main_accuracy` after which the run ends.
            Defaults to `None`: all epochs are trained.
        time_limit: Seconds, those before a kill included. The run ends with the last
            epoch that fits. Defaults to `None`.
        interrupted: Called after each epoch: whether to stop there. The run is not
            finished then, and can be resumed.
        rest: The compiled part of the model that is trained, if both datasets are
            `FeatureBatches` of its frozen trunk; see `compile_rest`.

    Returns:
        The contents of `result.json`: the best epoch (from 1), its `val_main_accuracy`,
        the number of epochs, the seconds, why the run ended before its last epoch
        (`stopped`: `"patience"` or `"time limit"`, else `None`), and `report()`.

    Raises:
        ValueError: If `validation_data` is empty.
        OSError: If the directory cannot hold the run; raised before training.
        RuntimeError: If another process trains in it.
        DivergenceError: If a loss becomes NaN or infinite.
        Interrupted: If `interrupted` stopped it.
    """
    batch = next(iter(validation_data), None)
    if batch is None:
        raise ValueError(
            "validation_data has no batch, but a run keeps the model that is best on "
            "it. Give at least one batch of (images, labels)."
        )
    run.check_room(model)
    with run.hold():
        if state is None:
            run.begin(config)
        state = state or _NOTHING_DONE
        history = History(run.history, state["history"])
        best = KeepBest(
            run.model, state["best"].get("value"), state["best"].get("epoch")
        )
        stopping = Stopping(
            best,
            patience=patience,
            time_limit=time_limit,
            spent=state["seconds"],
            interrupted=interrupted,
        )
        pace = Pace(_steps(validation_data))
        alarms = Alarms(state=state["alarms"])
        started = time.perf_counter() - state["seconds"]

        def current_state(epoch: int) -> dict:
            return {
                "epochs": epoch + 1,
                "history": history.rows,
                "best": {"value": best.value, "epoch": best.epoch},
                "alarms": alarms.state,
                "seconds": time.perf_counter() - started,
            }

        averages = averages_weights(model)
        every_callback = [
            pace,
            *([keras.callbacks.SwapEMAWeights()] if averages else []),
            history,
            *callbacks,
            Progress(pace),
            alarms,
            best,
            stopping,
            # last, so that the files its state refers to have been written
            KeepLatest(run.latest, current_state),
        ]
        if rest is not None:
            every_callback = [ForWhole(model, every_callback, train_data)]
        fitted = rest or model
        make_variables(fitted, batch)
        fitted.fit(
            train_data,
            validation_data=validation_data,
            initial_epoch=state["epochs"],
            epochs=config.epochs,
            verbose=0,
            shuffle=False,  # the pipeline shuffles
            class_weight=class_weight,
            callbacks=every_callback,
        )
        if stopping.reason == INTERRUPTED:
            raise Interrupted(run.path, len(history.rows), config.epochs)
        result = {
            "best_epoch": best.epoch,
            MONITOR: best.value,
            "epochs": len(history.rows),
            "seconds": round(time.perf_counter() - started, 1),
            "stopped": stopping.reason,
        } | report()
        write_json(run.result, result)
    return result


class Interrupted(KeyboardInterrupt):
    """Raised when the user stopped a run, which can be resumed."""

    def __init__(self, path: Path, done: int, epochs: int):
        super().__init__(
            f"stopped after epoch {done} of {epochs}; --resume continues the run in "
            f"{path}"
        )


def _steps(dataset: Iterable) -> int:
    """The number of batches, 0 if it is unknown."""
    return len(dataset) if isinstance(dataset, Sized) else 0


def make_variables(model: DeeplySupervised, batch: Sequence) -> None:
    """Creates the variables of optimizer, loss and metrics before `fit` traces a step.

    TensorFlow traces a step that creates variables a second time, and tracing a
    GoogLeNet takes seconds. On other backends and under a distribution strategy Keras
    does this itself. Of the batch only the form of the labels matters.
    """
    if keras.backend.backend() != "tensorflow" or is_distributed(model):
        return
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    _, labels, *_ = batch
    guesses = {
        name: ops.full((len(labels), output.shape[-1]), 1 / output.shape[-1])
        for name, output in model.output.items()
    }
    model.compute_loss(None, labels, guesses)
    model.compute_metrics(None, labels, guesses)
    model.reset_metrics()
