"""A training run on disk: its directory, its progress, the best model.

`train` runs `fit` inside a run directory:

    runs/NAME/config.json   every choice that made the run
              history.csv   a line per epoch, every output's loss and accuracy
              model.keras   the epoch with the best `val_main_accuracy`
              tensorboard/  for `tensorboard --logdir runs`
              result.json   written last: the run is complete
"""

import json
import shutil
import time
from pathlib import Path

import keras

from keras_inception.supervision import DeeplySupervised
from keras_inception.training.callbacks import MONITOR, KeepBest, Progress


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
        callbacks: More Keras callbacks, for example `TensorBoard(run.tensorboard)`.

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
        callbacks=[
            best,
            keras.callbacks.CSVLogger(run.history),
            Progress(),
            *callbacks,
        ],
    )
    result = {
        "best_epoch": best.epoch,
        MONITOR: best.value,
        "epochs": len(history.epoch),
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_json(run.result, result)
    return result
