"""Trains the settings that the oracle chooses, as `keras-inception train` does."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FatalRuntimeError
from tqdm import tqdm

from keras_inception import data, training
from keras_inception.files import write_json
from tuning.crash_safe_oracles import CrashSafeOracle
from tuning.hypermodel import HeadsHyperModel
from tuning.results import TRIALS, WORKER
from tuning.settings import Setting, setting_of

DEATHS = 2  # of the process that trains a trial; then the trial fails


class HeadsTuner(keras_tuner.Tuner):
    """Trains the trials of a search, or those that the chief gives to this worker.

    Each execution has its own run directory, `trials/trial_NN/execution_K`. A search
    that was killed resumes there at the beginning of an epoch, and never repeats a
    finished execution. Models are not kept: `train --hyperparameters` trains the best
    setting again.

    Args:
        oracle: Chooses the settings.
        hypermodel: Builds their models.
        directory: The search's directory.
        pictures: Called with a seed and the first epoch; returns the data.
        seed: Execution `k` of every trial has the seed `seed + k`. Defaults to 0.
        executions: Trainings of each setting. Defaults to 1.
        bar: Progress bar that counts epochs. Defaults to none.
    """

    def __init__(
        self,
        oracle: CrashSafeOracle,
        hypermodel: HeadsHyperModel,
        directory: Path,
        pictures: Callable[[int, int], data.Data],
        *,
        seed: int = 0,
        executions: int = 1,
        bar: tqdm | None = None,
    ):
        self.pictures = pictures
        self.seed = seed
        self.executions = executions
        self.bar = tqdm(disable=True) if bar is None else bar
        with contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from ..."
            super().__init__(
                oracle, hypermodel, directory=str(directory), project_name=TRIALS
            )

    def check(self) -> None:
        """Trains and validates on one batch, to check that the objective is logged.

        Raises:
            RuntimeError: If it is not.
        """
        setting = setting_of(self.oracle.hyperparameters.values)
        pictures = self.pictures(self.seed, 0)
        model = self.hypermodel.model(setting, 1)
        model.run_eagerly = True  # compiling takes longer than one batch
        logs = model.fit(
            pictures.train.take(1),
            validation_data=pictures.validation.take(1),
            shuffle=False,  # the pipeline shuffles
            verbose=0,
        ).history
        if training.MONITOR not in logs:
            raise RuntimeError(
                f"The search optimizes {training.MONITOR}, but a training logs only "
                f"{', '.join(logs)}"
            )
        keras.utils.clear_session()

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Trains a setting with every seed, and returns the mean of the accuracies."""
        directory = Path(self.get_trial_dir(trial.trial_id))
        values = trial.hyperparameters.values
        setting = setting_of(values)
        name = f"trial {int(trial.trial_id)} ({setting.endpoints})"
        epochs = values.get("tuner/epochs", self.hypermodel.epochs)
        with record_outcome(directory, self.tuner_id):
            accuracies = [
                self.execute(
                    setting,
                    epochs,
                    self.seed + execution,
                    directory / f"execution_{execution}",
                    f"{name}, seed {self.seed + execution}",
                )
                for execution in range(self.executions)
            ]
        return {training.MONITOR: sum(accuracies) / len(accuracies)}

    def execute(
        self, setting: Setting, epochs: int, seed: int, path: Path, name: str
    ) -> float:
        """Trains a setting in a run directory, or resumes it; returns its accuracy.

        `name` is the label of the progress bar.
        """
        run = training.RunDirectory(path)
        result = run.read_result()
        if result is None:
            log = path.with_suffix(".log").open("a")
            with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                result = self._train(setting, epochs, seed, path, name)
        for model in path.glob("*.keras"):
            model.unlink()
        return result[training.MONITOR]

    def _train(
        self, setting: Setting, epochs: int, seed: int, path: Path, name: str
    ) -> dict[str, Any]:
        run = training.RunDirectory(path)
        if not run.config.is_file():
            # killed before config.json was written
            shutil.rmtree(path, ignore_errors=True)
            run = training.RunDirectory.create(path)
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        model, state = run.checkpoint() or (None, None)
        pictures = self.pictures(seed, state["epochs"] if state else 0)
        if model is None:
            model = self.hypermodel.model(setting, epochs)
        choices = setting.hyperparameters
        config = training.RunConfig(
            data=pictures.source.name,
            epochs=epochs,
            heads=tuple(choices.pop("heads")),
            seed=seed,
            settings=choices,
        )
        return training.train(
            model,
            pictures.train,
            pictures.validation,
            run,
            config=config,
            callbacks=[
                self.hypermodel.schedule(setting),
                training.TensorBoard(
                    run.tensorboard,
                    hparams=setting.hparams(self.hypermodel.space.endpoints)
                    | {"epochs": epochs, "seed": seed},
                ),
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, logs: self.bar.set_description(
                        f"{name}, epoch {epoch + 1}/{epochs}"
                    ),
                    on_epoch_end=lambda epoch, logs: self.bar.update(),
                ),
            ],
            state=state,
        )

    # KerasTuner's own file of the tuner is not needed: the oracle's holds everything.

    def save(self) -> None:
        """Writes the oracle's file, unless this process is a worker."""
        if not self._is_worker():
            self.oracle.save()

    def reload(self) -> None:
        """Reads the oracle's file, unless this process is a worker."""
        if not self._is_worker():
            self.oracle.reload()

    def _get_tuner_fname(self) -> str:
        return str(Path(self.project_dir) / "oracle.json")

    def _populate_initial_space(self) -> None:
        pass  # the oracle declared it; KerasTuner would build models to find it


@contextlib.contextmanager
def record_outcome(directory: Path, worker: str) -> Iterator[None]:
    """Within the block a trial's directory names its worker; then its error, if any.

    An `OSError`, for example a full disk, ends the search instead, and the trial is
    trained again when the search is resumed.

    Raises:
        RuntimeError: If the process died in this trial twice, as `workers` counts.
    """
    file = directory / WORKER
    deaths = json.loads(file.read_text())["deaths"] if file.is_file() else 0
    write_json(file, {"worker": worker, "deaths": deaths, "ended": False})
    try:
        if deaths >= DEATHS:
            raise RuntimeError(f"its process died {deaths} times")
        yield
    except OSError as error:
        raise FatalRuntimeError(str(error)) from error
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        write_json(directory / "error.json", {"error": " ".join(text.split())})
        raise
    finally:
        write_json(file, {"worker": worker, "deaths": deaths, "ended": True})
