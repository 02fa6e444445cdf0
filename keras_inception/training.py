"""A training run on disk: its directory, its progress, the best model.

`train` runs `fit` inside a run directory:

    runs/NAME/config.json   every choice that made the run
              history.csv   a line per epoch, every output's loss and accuracy
              model.keras   the epoch with the best `val_main_accuracy`
              tensorboard/  for `tensorboard --logdir runs`
              result.json   written last: the run is complete
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras

from keras_inception.supervision import MAIN, DeeplySupervised

MONITOR = f"val_{MAIN}_accuracy"  # never val_loss, which contains the heads


class RunDirectory:
    """The files of one training run.

    Args:
        path: `runs/NAME`; made if it is not there.
        overwrite: Whether to delete an earlier run of this name. Defaults to False.

    Raises:
        FileExistsError: If the directory holds a run and `overwrite` is False, or
            holds something that is no run.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.history = self.path / "history.csv"
        self.model = self.path / "model.keras"
        self.tensorboard = self.path / "tensorboard"
        self.result = self.path / "result.json"
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            self._make_way(overwrite)
        self.path.mkdir(parents=True, exist_ok=True)

    def _make_way(self, overwrite: bool):
        if not self.config.is_file():
            raise FileExistsError(
                f"{self.path} is there already and is no training run; choose another "
                "place."
            )
        if not overwrite:
            state = "a finished" if self.result.is_file() else "an unfinished"
            raise FileExistsError(
                f"{self.path} holds {state} run. Give this one another --name, or "
                "--overwrite the old one."
            )
        shutil.rmtree(self.path)


def write_json(path: Path, content: dict) -> None:
    """Writes a JSON file whole or not at all."""
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


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
) -> dict:
    """Fits a compiled model inside a run directory.

    Args:
        model: A compiled `DeeplySupervised` model.
        train_data: Batches of `(images, labels)` in the order to learn them, as from
            `data.load`.
        validation_data: The same, held out.
        run: Where everything is written.
        epochs: Passes over `train_data`.
        config: What made this run, for `config.json`.
        callbacks: More Keras callbacks.
        class_weight: A weight for the losses of each class, as `fit` takes them.
        report: Called at the end; what it returns goes into `result.json` as well.

    Returns:
        What `result.json` holds: the best epoch (from 1), its `val_main_accuracy`, the
        number of epochs and the seconds.
    """
    write_json(run.config, config)
    best = KeepBest(run.model)
    started = time.perf_counter()
    history = model.fit(
        train_data,
        validation_data=validation_data,
        epochs=epochs,
        verbose=0,
        shuffle=False,  # the pipeline's matter
        class_weight=class_weight,
        callbacks=[
            best,
            keras.callbacks.CSVLogger(run.history),
            keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
            Progress(),
            *callbacks,
        ],
    )
    result = {
        "best_epoch": best.epoch,
        MONITOR: best.value,
        "epochs": len(history.epoch),
        "seconds": round(time.perf_counter() - started, 1),
    } | report()
    write_json(run.result, result)
    return result


class KeepBest(keras.callbacks.Callback):
    """Saves the model when `val_main_accuracy` rises, whole or not at all.

    Args:
        path: A file that ends in `.keras`.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.path = Path(path)
        self.value = None
        self.epoch = None

    def on_epoch_end(self, epoch, logs=None):
        value = logs[MONITOR]
        if self.value is not None and value <= self.value:
            return
        self.value, self.epoch = float(value), epoch + 1
        # ModelCheckpoint writes in place: a kill while it writes costs the old file too
        partial = self.path.with_name(f".partial-{self.path.name}")
        self.model.save(partial)
        os.replace(partial, self.path)


class Progress(keras.callbacks.Callback):
    """Prints a line per epoch: the loss, and the accuracy of every output.

    Where the output is a terminal the line counts the steps while an epoch runs.
    """

    def __init__(self, stream=None):
        super().__init__()
        self.stream = stream or sys.stdout

    def on_train_begin(self, logs=None):
        self._print("epoch      loss   validation accuracy")

    def on_epoch_begin(self, epoch, logs=None):
        self._label = f"{epoch + 1:>3}/{self.params['epochs']:<4}"
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if self.stream.isatty():
            steps = self.params.get("steps") or "?"
            self._print(f"\r{self._label} step {batch + 1}/{steps}\033[K", end="")

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        accuracies = "  ".join(
            f"{name} {logs[f'val_{name}_accuracy']:.3f}" for name in self.model.output
        )
        start = "\r\033[K" if self.stream.isatty() else ""
        loss = f"{logs['loss']:>7.3f}"
        self._print(f"{start}{self._label} {loss}   {accuracies}  {seconds:5.1f} s")

    def _print(self, text, end="\n"):
        print(text, end=end, file=self.stream, flush=True)
