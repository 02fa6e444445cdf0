"""A training run on disk: its directory, and `fit` inside it.

`train` leaves these files behind:

    runs/NAME/config.json   every choice that made the run
              history.csv   a line per epoch, every output's loss and accuracy
              model.keras   the epoch with the best `val_main_accuracy`
              latest.keras  the last finished epoch: where a killed run goes on
              tensorboard/  for `tensorboard --logdir runs`
              result.json   written last: the run is complete
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import keras

from keras_inception.files import write_json
from keras_inception.supervision import DeeplySupervised
from keras_inception.training.alarms import Alarms
from keras_inception.training.callbacks import MONITOR, History, KeepBest, Progress
from keras_inception.training.checkpoint import averages_weights, save_checkpoint
from keras_inception.training.run_directory import RunDirectory
from keras_inception.training.tracing import make_variables


def train(
    model: DeeplySupervised,
    train_data,
    validation_data,
    run: RunDirectory,
    *,
    epochs: int,
    config: dict,
    callbacks=(),
    class_weight: dict[int, float] | None = None,
    report: Callable[[], dict] = dict,
    state: dict | None = None,
) -> dict:
    """Fits a compiled model inside a run directory.

    After each epoch everything that the next one depends on is in `latest.keras`. A run
    that is killed goes on at the beginning of the epoch it was in: with the model and
    the state of `run.checkpoint()`, and `train_data` in the order of that epoch.

    Args:
        model: A compiled `DeeplySupervised` model.
        train_data: Batches of `(images, labels)` in the order to learn them, as from
            `data.load`.
        validation_data: The same, held out.
        run: Where everything is written.
        epochs: Passes over `train_data`, those before a kill included.
        config: What made this run, for `config.json`.
        callbacks: More Keras callbacks, for example `TensorBoard(run.tensorboard)`.
        class_weight: A weight for the losses of each class, as `fit` takes them.
        report: Called at the end; what it returns goes into `result.json` as well.
        state: Of the checkpoint that `model` comes from; `None` (default): a new run.

    Returns:
        What `result.json` holds: the best epoch (from 1), its `val_main_accuracy`, the
        number of epochs and the seconds.

    Raises:
        ValueError: If there is nothing to validate on.
        OSError: If the directory can't hold the run, before anything is trained.
        RuntimeError: If another process trains in it.
        DivergenceError: If a loss is no number any more.
    """
    batch = next(iter(validation_data), None)
    if batch is None:
        raise ValueError(
            "validation_data has no batch, and a run keeps the model that is best "
            "on it. Give at least one batch of (pictures, labels)."
        )
    run.check_room(model)
    run.check_free()
    if state is None:
        # of a run that was killed before its first epoch ended
        shutil.rmtree(run.tensorboard, ignore_errors=True)
        write_json(run.config, config)
        state = {"epochs": 0, "history": [], "best": {}, "alarms": {}, "seconds": 0.0}
    history = History(run.history, state["history"])
    best = KeepBest(run.model, **state["best"])
    alarms = Alarms(state=state["alarms"])
    started = time.perf_counter() - state["seconds"]

    def present_state(epoch: int) -> dict:
        return {
            "epochs": epoch + 1,
            "history": history.rows,
            "best": {"value": best.value, "epoch": best.epoch},
            "alarms": alarms.state,
            "seconds": time.perf_counter() - started,
        }

    make_variables(model, batch)
    with run.hold():
        model.fit(
            train_data,
            validation_data=validation_data,
            initial_epoch=state["epochs"],
            epochs=epochs,
            verbose=0,
            shuffle=False,  # the pipeline's matter
            class_weight=class_weight,
            callbacks=[
                *(
                    [keras.callbacks.SwapEMAWeights()]
                    if averages_weights(model)
                    else []
                ),
                history,
                *callbacks,
                Progress(),
                alarms,
                best,
                # last, so that what it remembers has been written
                KeepLatest(run.latest, present_state),
            ],
        )
    result = {
        "best_epoch": best.epoch,
        MONITOR: best.value,
        "epochs": len(history.rows),
        "seconds": round(time.perf_counter() - started, 1),
    } | report()
    write_json(run.result, result)
    return result


class KeepLatest(keras.callbacks.Callback):
    """Writes the checkpoint after each epoch.

    Args:
        path: A file that ends in `.keras`.
        state: Called with the epoch, from 0; what it returns is kept with the model.
    """

    def __init__(self, path: str | Path, state: Callable[[int], dict]):
        super().__init__()
        self.path, self.state = Path(path), state

    def on_epoch_end(self, epoch, logs=None):
        save_checkpoint(self.model, self.path, self.state(epoch))
