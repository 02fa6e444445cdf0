"""Trains what the oracle chooses, for each seed, as `keras-inception train` does."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import keras_tuner
from keras_tuner.errors import FatalRuntimeError

from keras_inception import data, training
from keras_inception.files import write_json
from tuning.crash_safe_oracles import CrashSafeOracle
from tuning.hypermodel import HeadsHyperModel
from tuning.results import TRIALS, WORKER
from tuning.settings import Setting, setting_of

DEATHS = 2  # of the process that trains a trial, before the trial is given up


class HeadsTuner(keras_tuner.Tuner):
    """Runs the trials of a search, or a worker's share of them.

    Each execution is a run directory of its own, `trials/trial_NN/execution_K`; a
    killed search goes on in it at the beginning of an epoch. Executions that are done
    are never done again. Models are not kept: `train --hyperparameters` makes the best
    one anew.

    Args:
        oracle: What chooses.
        hypermodel: What builds.
        directory: Where the search is kept.
        pictures: Called with a seed and the first epoch: what a trial learns from.
        seed: Execution `k` of every trial has the seed `seed + k`.
        executions: How often each setting is trained.
        show: Called with a line of progress whenever there is one.
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
        show: Callable[[str], None] = lambda line: None,
    ):
        self.pictures = pictures
        self.seed = seed
        self.executions = executions
        self.show = show
        with contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from ..."
            super().__init__(
                oracle, hypermodel, directory=str(directory), project_name=TRIALS
            )

    def check(self) -> None:
        """Trains and validates on one batch: is there what the search optimises?

        Raises:
            RuntimeError: If the logs lack it.
        """
        setting = setting_of(self.oracle.hyperparameters.values)
        pictures = self.pictures(self.seed, 0)
        model = self.hypermodel.model(setting, 1)
        model.run_eagerly = True  # compiling takes longer than a batch
        logs = model.fit(
            pictures.train.take(1),
            validation_data=pictures.validation.take(1),
            shuffle=False,  # the pipeline's matter
            verbose=0,
        ).history
        if training.MONITOR not in logs:
            raise RuntimeError(
                f"The search optimises {training.MONITOR}, which the logs of a first "
                f"batch lack: {', '.join(logs)}"
            )
        keras.utils.clear_session()

    def run_trial(self, trial) -> dict[str, float]:
        """Trains a setting with every seed, and returns the mean of the accuracies."""
        directory = Path(self.get_trial_dir(trial.trial_id))
        values = trial.hyperparameters.values
        setting, name = setting_of(values), f"trial {int(trial.trial_id)}"
        epochs = values.get("tuner/epochs", self.hypermodel.epochs)
        with count_or_give_up(directory, self.tuner_id):
            accuracies = [
                self.execute(
                    setting,
                    epochs,
                    self.seed + execution,
                    directory / f"execution_{execution}",
                    f"{name}, {setting.summary}, seed {self.seed + execution}",
                )
                for execution in range(self.executions)
            ]
        self.show("")
        return {training.MONITOR: sum(accuracies) / len(accuracies)}

    def execute(
        self, setting: Setting, epochs: int, seed: int, path: Path, name: str
    ) -> float:
        """Trains a setting once, or goes on with it, and returns its best accuracy."""
        run = training.RunDirectory(path)
        if not run.result.is_file():
            log = path.with_suffix(".log").open("a")
            with log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                self._train(setting, epochs, seed, path, name)
        for model in path.glob("*.keras"):
            model.unlink()
        return run.read_result()[training.MONITOR]

    def _train(self, setting, epochs, seed, path, name) -> None:
        run = training.RunDirectory(path)
        if not run.config.is_file():
            shutil.rmtree(path, ignore_errors=True)  # killed before it began
            run = training.RunDirectory.create(path)
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        model, state = run.checkpoint() or (None, None)
        pictures = self.pictures(seed, state["epochs"] if state else 0)
        if model is None:
            model = self.hypermodel.model(setting, epochs)
        config = training.RunConfig(
            data=pictures.source.name,
            epochs=epochs,
            heads=tuple(setting.heads),
            seed=seed,
            settings=setting.hyperparameters,
        )
        training.train(
            model,
            pictures.train,
            pictures.validation,
            run,
            config=config,
            callbacks=[
                self.hypermodel.schedule(setting),
                training.TensorBoard(
                    run.tensorboard,
                    hparams=setting.hparams(self.hypermodel.space.places)
                    | {"epochs": epochs, "seed": seed},
                ),
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, logs: self.show(
                        f"{name}: epoch {epoch + 1}/{epochs}"
                    )
                ),
            ],
            state=state,
        )

    # The oracle's file is all there is to keep.

    def save(self) -> None:
        if not self._is_worker():
            self.oracle.save()

    def reload(self) -> None:
        if not self._is_worker():
            self.oracle.reload()

    def _get_tuner_fname(self) -> str:
        return str(Path(self.project_dir) / "oracle.json")

    def _populate_initial_space(self) -> None:
        pass  # declared already; KerasTuner would build models to find it


@contextlib.contextmanager
def count_or_give_up(directory: Path, worker: str):
    """Within the block a trial's directory says who runs it, and then how it failed.

    What a disk refuses ends the search instead, and the trial is run again when the
    search goes on.

    Raises:
        RuntimeError: If the trial's process died in it too often, as `workers` counts.
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
        fault = f"{type(error).__name__}: {error}"
        write_json(directory / "error.json", {"error": " ".join(fault.split())})
        raise
    finally:
        write_json(file, {"worker": worker, "deaths": deaths, "ended": True})
