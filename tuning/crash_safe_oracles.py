"""KerasTuner's oracles, which choose what to try, made to survive a kill.

KerasTuner writes its files in place and in an order in which a kill can lose a trial
or run it twice. Here files appear by rename, and reading them back goes by what the
oracle's own file says: it is written last, so what it does not know has not happened.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import keras_tuner
import numpy as np
from keras_tuner.oracles import (
    BayesianOptimizationOracle,
    HyperbandOracle,
    RandomSearchOracle,
)

from keras_inception.files import write_json
from keras_inception.training import MONITOR
from tuning.space import Space

FAILURES = 3  # in a row end a search: something is wrong with all of them


class CrashSafeOracle:
    """What the three oracles have in common; stands before one of them.

    The first trials are the space's own (`Space.first`). Draws are functions of the
    seed and of the trials before, so that a search goes on as if it had never been
    interrupted.
    """

    first: list[dict] = []  # noqa: RUF012
    on_trial_end: Callable[[keras_tuner.engine.trial.Trial], None] | None = None

    def populate_space(self, trial_id: str) -> dict:
        last = [self.trials[name] for name in self.end_order[-FAILURES:]]
        if len(last) == FAILURES and all(trial.status == "FAILED" for trial in last):
            return {"status": "STOPPED"}
        if len(self.trials) < len(self.first):
            return {"status": "RUNNING", "values": self.first_values()}
        return super().populate_space(trial_id)

    def first_values(self) -> dict:
        """The values of the trial to begin with that comes next."""
        return dict(self.first[len(self.trials)])

    def end_trial(self, trial) -> None:
        # Its own copy of the values: those of a worker have been through 32 bits, and
        # would count as other ones.
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters.copy()
        super().end_trial(trial)
        self.save()  # without it among those that are running
        if self.on_trial_end is not None:
            self.on_trial_end(self.trials[trial.trial_id])

    def save(self) -> None:
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial) -> None:
        directory = Path(self._get_trial_dir(trial.trial_id))
        write_json(directory / "trial.json", trial.get_state())

    def reload(self) -> None:
        super().reload()
        for trial_id in set(self.trials) - set(self.start_order):
            # killed between the trial's file and the oracle's: it is drawn again
            shutil.rmtree(self._get_trial_dir(trial_id))
        # in their order, on which the last digits of a Gaussian process depend
        self.trials = {trial_id: self.trials[trial_id] for trial_id in self.start_order}
        # the queue's end comes first
        self._retry_queue = [
            trial_id
            for trial_id in reversed(self.start_order)
            if self.trials[trial_id].status == "RUNNING"
        ]


class RandomOracle(CrashSafeOracle, RandomSearchOracle):
    """Settings drawn at random, none twice."""


class BayesianOracle(CrashSafeOracle, BayesianOptimizationOracle):
    """Settings that a Gaussian process thinks promising."""

    def populate_space(self, trial_id: str) -> dict:
        # KerasTuner does not keep this generator's state
        self._random_state = np.random.RandomState([self.seed, len(self.trials)])
        response = super().populate_space(trial_id)
        if response["status"] == "RUNNING" and self._duplicate(response["values"]):
            # with the same seeds it would end the same
            return self._random_populate_space()
        return response


class FromScratchHyperband(CrashSafeOracle, HyperbandOracle):
    """Many settings for few epochs, the best of them for more, and so on.

    The first trials stand outside of the rounds and get all epochs, so that there is
    something to compare with.
    """

    def first_values(self) -> dict:
        rounds = {
            "epochs": self.max_epochs,
            "initial_epoch": 0,
            "bracket": 0,
            "round": 0,
        }
        return super().first_values() | {f"tuner/{k}": v for k, v in rounds.items()}


def oracle(
    kind: str, space: Space, *, trials: int, epochs: int, seed: int
) -> CrashSafeOracle:
    """The oracle of a search for the best `val_main_accuracy`.

    Args:
        kind: `"bayesian"`, `"hyperband"` or `"random"`.
        space: What is searched.
        trials: How many settings are tried, the first ones included.
        epochs: How long a setting is trained at most.
        seed: Of its draws.
    """
    hyperparameters = keras_tuner.HyperParameters()
    space.declare(hyperparameters)
    common = {
        # KerasTuner can't guess the direction of a name it does not know
        "objective": keras_tuner.Objective(MONITOR, "max"),
        "hyperparameters": hyperparameters,
        "seed": seed + 1,  # 0 would mean: draw one
        "max_consecutive_failed_trials": trials + 1,  # `populate_space` sees to it
    }
    if kind == "hyperband":
        # as many sweeps as the trials allow
        made = FromScratchHyperband(
            max_epochs=epochs, hyperband_iterations=trials, **common
        )
        made.max_trials = trials
    elif kind == "bayesian":
        made = BayesianOracle(
            max_trials=trials,
            # three for each parameter are KerasTuner's; few searches have so many
            num_initial_points=min(3 * len(hyperparameters.space), max(5, trials // 3)),
            alpha=0.1,  # accuracies of one seed are noisy
            **common,
        )
    else:
        made = RandomOracle(max_trials=trials, **common)
    made.first = space.first
    made.verbose = 0
    return made
