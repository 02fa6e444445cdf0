"""KerasTuner's oracles, which choose the next trial, made safe against a kill.

KerasTuner writes its files in place, in an order in which a kill can lose a trial or
run it twice. Here each file is written whole, and the oracle's own file is written
last: after a kill, a trial that it does not list is treated as never started.

`tests/test_keras_tuner_internals.py` checks the private methods overridden here.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial
from keras_tuner.oracles import BayesianOptimizationOracle as Bayesian
from keras_tuner.oracles import HyperbandOracle, RandomSearchOracle

from keras_inception.files import write_json
from keras_inception.training import MONITOR
from tuning.space import Space

FAILURES = 3  # in a row end a search: the fault is then not the setting's


class CrashSafeOracle(keras_tuner.Oracle):
    """Mixin placed before one of KerasTuner's oracles.

    A search begins with the trials of `Space.first`. Draws depend only on the seed and
    on the trials before, so a resumed search draws what it would have drawn.
    """

    trials: dict[str, Trial]
    first: list[dict[str, Any]] = []  # noqa: RUF012
    after_trial: Callable[[Trial], None] | None = None

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """KerasTuner's: the next trial's values, or `STOPPED` after three failures."""
        last = [self.trials[name] for name in self.end_order[-FAILURES:]]
        if len(last) == FAILURES and all(trial.status == "FAILED" for trial in last):
            return {"status": "STOPPED"}
        if len(self.trials) < len(self.first):
            return {"status": "RUNNING", "values": self.first_values()}
        return super().populate_space(trial_id)

    def first_values(self) -> dict[str, Any]:
        """The values of the next of the first trials."""
        return dict(self.first[len(self.trials)])

    def end_trial(self, trial: Trial) -> None:
        """KerasTuner's: stores a trial's result, then calls `after_trial`."""
        # A worker's copy of the values has been rounded to 32 bits, and would count as
        # another setting.
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters.copy()
        super().end_trial(trial)
        self.save()  # again: KerasTuner saves before it removes the ongoing trial
        if self.after_trial is not None:
            self.after_trial(self.trials[trial.trial_id])

    def save(self) -> None:
        """Writes the oracle's file whole."""
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        directory = Path(self._get_trial_dir(trial.trial_id))
        write_json(directory / "trial.json", trial.get_state())

    def reload(self) -> None:
        """Reads the oracle's file and the trials that it lists."""
        # KerasTuner takes brackets in the path as a pattern, so it finds no trials, or
        # those of another search. It needs these before and overwrites some.
        files = Path(self._project_dir).glob("trial_*/trial.json")
        own = {trial.trial_id: trial for trial in map(Trial.load, map(str, files))}
        self.trials.update(own)
        super().reload()
        self.trials = own
        for trial_id in set(self.trials) - set(self.start_order):
            # Killed between writing the trial and the oracle: it will be drawn again.
            shutil.rmtree(self._get_trial_dir(trial_id))
        # The last digits of a Gaussian process depend on the order of the trials.
        self.trials = {trial_id: self.trials[trial_id] for trial_id in self.start_order}
        # KerasTuner takes the next trial from the end of the queue.
        self._retry_queue = [
            trial_id
            for trial_id in reversed(self.start_order)
            if self.trials[trial_id].status == "RUNNING"
        ]


class RandomOracle(CrashSafeOracle, RandomSearchOracle):
    """Draws settings at random, none twice."""


class BayesianOracle(CrashSafeOracle, Bayesian):
    """Draws some settings at random, then those that a Gaussian process favors."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """As the superclass; never a setting that was tried already."""
        # KerasTuner does not save this generator's state.
        self._random_state = np.random.RandomState([self.seed, len(self.trials)])
        response = super().populate_space(trial_id)
        if response["status"] == "RUNNING" and self._duplicate(response["values"]):
            # Trained with the same seeds, it would give the same accuracy.
            return self._random_populate_space()
        return response


class FromScratchHyperband(CrashSafeOracle, HyperbandOracle):
    """Trains many settings for a few epochs, then the best of them for more.

    The first trials are outside the rounds and are trained for all epochs, so that the
    final round can be compared with them.
    """

    def first_values(self) -> dict[str, Any]:
        """As the superclass, with KerasTuner's values for a trial of all epochs."""
        rounds = {f"tuner/{name}": 0 for name in ("initial_epoch", "bracket", "round")}
        return super().first_values() | {"tuner/epochs": self.max_epochs} | rounds


def oracle(
    kind: str, space: Space, trials: int, epochs: int, seed: int
) -> CrashSafeOracle:
    """Makes the oracle of a search for the best `val_main_accuracy`.

    `kind` is `"bayesian"`, `"hyperband"` or `"random"`; the trials include the first
    ones of the space, and the epochs are those of a full training.
    """
    hyperparameters = keras_tuner.HyperParameters()
    space.declare(hyperparameters)
    common = {
        # KerasTuner infers a direction only for metrics that it knows by name.
        "objective": keras_tuner.Objective(MONITOR, "max"),
        "hyperparameters": hyperparameters,
        "seed": seed + 1,  # KerasTuner replaces 0 by a random seed
        "max_consecutive_failed_trials": trials + 1,  # see `populate_space`
    }
    made: CrashSafeOracle
    if kind == "hyperband":
        # `max_trials` ends the search; this many sweeps always suffice.
        made = FromScratchHyperband(
            max_epochs=epochs, hyperband_iterations=trials, **common
        )
    elif kind == "bayesian":
        # KerasTuner's three for each parameter are more than most searches have.
        initial = min(3 * len(hyperparameters.space), max(5, trials // 3))
        # alpha: the accuracy of a single seed is noisy
        made = BayesianOracle(num_initial_points=initial, alpha=0.1, **common)
    else:
        made = RandomOracle(**common)
    made.max_trials = trials
    made.first = space.first
    made.verbose = 0
    return made
