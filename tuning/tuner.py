"""Trains the settings that the oracle chooses, as `train` does; shows the progress."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FatalRuntimeError
from tqdm import tqdm

from keras_inception import data, training
from keras_inception.files import read_json, write_json
from keras_inception_cli.console import progress_bar
from tuning import results
from tuning.crash_safe_oracles import CrashSafeOracle
from tuning.hypermodel import HeadsHyperModel
from tuning.results import TRIALS, WORKER, Search
from tuning.settings import Setting, setting_of

DEATHS = 2  # of the process that trains a trial; then the trial fails


class HeadsTuner(keras_tuner.Tuner):
    """Trains the trials of a search, or those that the chief gives to this worker.

    Each execution has its own run directory, `trials/trial_NN/execution_K`. A search
    that was killed resumes there at the beginning of an epoch, and never repeats a
    finished execution. Models are not kept: `train --hyperparameters` trains the best
    setting again.

    `pictures(seed=..., first_epoch=...)` loads the data. Execution `k` of every trial
    has the seed `seed + k`. The bar counts epochs.
    """

    def __init__(
        self,
        oracle: CrashSafeOracle,
        hypermodel: HeadsHyperModel,
        directory: Path,
        pictures: Callable[..., data.Data],
        *,
        seed: int = 0,
        executions: int = 1,
        bar: tqdm | None = None,
    ):
        self.pictures = pictures
        self.seed = seed
        self.executions = executions
        self.bar = tqdm(disable=True) if bar is None else bar
        names = {"directory": str(directory), "project_name": TRIALS}
        with redirect_stdout(io.StringIO()):  # "Reloading Tuner from ..."
            super().__init__(oracle, hypermodel, **names)

    def check(self) -> None:
        """Trains and validates on one batch, to check that the objective is logged."""
        setting = setting_of(self.oracle.hyperparameters.values)
        pictures = self.pictures(seed=self.seed)
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
        accuracies = []
        with record_outcome(directory, self.tuner_id):
            for execution in range(self.executions):
                path = directory / f"execution_{execution}"
                result, seed = training.RunDirectory(path).result, self.seed + execution
                if not result.is_file():
                    log = path.with_suffix(".log").open("a")
                    with log, redirect_stdout(log), redirect_stderr(log):
                        self._train(setting, epochs, seed, path, f"{name}, seed {seed}")
                for model in path.glob("*.keras"):
                    model.unlink()
                accuracies.append(results.read_execution(result)["val_main_accuracy"])
        return {training.MONITOR: sum(accuracies) / len(accuracies)}

    def _train(
        self, setting: Setting, epochs: int, seed: int, path: Path, name: str
    ) -> None:
        """Trains a setting in a run directory, or resumes it."""
        run = training.RunDirectory(path)
        if not run.config.is_file():
            shutil.rmtree(path, ignore_errors=True)  # killed before it began
            run = training.RunDirectory.create(path)
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        model, state = run.checkpoint() or (None, None)
        pictures = self.pictures(seed=seed, first_epoch=state["epochs"] if state else 0)
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
        hparams = setting.hparams(self.hypermodel.space.endpoints)
        hparams |= {"epochs": epochs, "seed": seed}
        bar = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self.bar.set_description(
                f"{name}, epoch {epoch + 1}/{epochs}"
            ),
            on_epoch_end=lambda epoch, logs: self.bar.update(),
        )
        training.train(
            model,
            pictures.train,
            pictures.validation,
            run,
            config=config,
            callbacks=[
                self.hypermodel.schedule(setting),
                training.TensorBoard(run.tensorboard, hparams=hparams),
                bar,
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


@contextmanager
def record_outcome(directory: Path, worker: str) -> Iterator[None]:
    """Within the block a trial's directory names its worker; then its error, if any.

    A trial in which the process died twice, as `workers` counts, fails. An `OSError`,
    for example a full disk, ends the search instead, and the trial is trained again
    when the search is resumed.
    """
    file = directory / WORKER
    known = read_json(file, results.WorkerState) if file.is_file() else {"deaths": 0}
    deaths = known["deaths"]
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


def search_bar() -> tqdm:
    """A bar that counts epochs and estimates the time left from their mean time."""
    bar = progress_bar("search", None, "epoch")
    bar.smoothing = 0
    bar.clear()
    return bar


def show_progress(bar: tqdm, search: Search, *, resumed: bool = False) -> None:
    """Sets the bar to the epochs done and to do, over all trials and executions.

    With `resumed` the epochs done so far do not count for the time left.
    """
    trials, executions = search.trials, search.choices["executions"]
    done = sum(trial.epochs * len(trial.accuracies) for trial in trials)
    running = [trial for trial in trials if trial.status == "RUNNING"]
    left = sum(trial.epochs * (executions - len(trial.accuracies)) for trial in running)
    # Hyperband's trials differ in length: those to come count as an average one.
    epochs = [trial.epochs for trial in trials] or [search.choices["epochs"]]
    coming = search.choices["trials"] - len(trials)
    left += round(coming * executions * sum(epochs) / len(epochs))
    bar.n, bar.total = done, done + left
    if resumed:
        bar.initial = done
    bar.refresh()


def finish_trial(directory: Path, number: int, bar: tqdm, stream: TextIO) -> None:
    """Prints the line of a trial that ended, and updates trials.csv and best.json."""
    search = results.read(directory)
    results.write(search, directory)
    trial, best = next(t for t in search.trials if t.number == number), search.best
    figure = trial.figure if trial.status == "COMPLETED" else "failed"
    label = search.label(trial) or ("best so far" if trial == best else "")
    compared = "" if best is None else f"best {best.accuracy:.4f}"
    bar.clear()
    print(
        f"{trial.number:>5}  {figure:<15}  {compared}  {label:<11}  "
        f"{trial.setting.summary}, {trial.seconds:.0f} s  {trial.error}".rstrip(),
        file=stream,
        flush=True,
    )
    show_progress(bar, search)
