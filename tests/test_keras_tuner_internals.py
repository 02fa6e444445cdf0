"""KerasTuner's private names that `tuning` overrides or uses.

If KerasTuner renamed one, the override would silently never be called: these tests fail
instead. Nothing is trained.
"""

import inspect

import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle

from tuning import crash_safe_oracles
from tuning.crash_safe_oracles import (
    BayesianOracle,
    CrashSafeOracle,
    FromScratchHyperband,
    oracle,
)
from tuning.results import TRIALS
from tuning.space import Space
from tuning.tuner import HeadsTuner

SPACE = Space(("inception_4a", "inception_4b", "inception_4d"), 2)


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


# `end_trial` is missing here, since a decorator hides its parameters; others call it.
@pytest.mark.parametrize(
    ("ours", "theirs", "name"),
    [
        (CrashSafeOracle, keras_tuner.Oracle, "populate_space"),
        (CrashSafeOracle, keras_tuner.Oracle, "save"),
        (CrashSafeOracle, keras_tuner.Oracle, "reload"),
        (CrashSafeOracle, keras_tuner.Oracle, "_save_trial"),
        (BayesianOracle, BayesianOptimizationOracle, "populate_space"),
        (HeadsTuner, BaseTuner, "run_trial"),
        (HeadsTuner, BaseTuner, "save"),
        (HeadsTuner, BaseTuner, "reload"),
        (HeadsTuner, BaseTuner, "_get_tuner_fname"),
        (HeadsTuner, BaseTuner, "_populate_initial_space"),
    ],
)
def test_overrides_replace_a_method_with_the_same_parameters(ours, theirs, name):
    expected = [p for p in parameters(vars(theirs)[name]) if not p.startswith("fit_")]
    assert parameters(vars(ours)[name]) == expected


@pytest.mark.parametrize(
    ("cls", "name", "expected"),
    [
        (keras_tuner.Oracle, "_get_oracle_fname", ["self"]),
        (keras_tuner.Oracle, "_get_trial_dir", ["self", "trial_id"]),
        (keras_tuner.Oracle, "_duplicate", ["self", "values"]),
        (BayesianOptimizationOracle, "_random_populate_space", ["self"]),
        (BaseTuner, "_is_worker", ["self"]),
    ],
)
def test_methods_that_are_called_exist(cls, name, expected):
    assert parameters(vars(cls)[name]) == expected


def made(kind, directory, trials=9):
    chosen = oracle(kind, SPACE, trials=trials, epochs=9, seed=3)
    chosen._set_project_dir(str(directory), TRIALS)
    return chosen


def finish(chosen, trial, accuracy=0.5):
    chosen.update_trial(trial.trial_id, {"val_main_accuracy": accuracy})
    trial.status = "COMPLETED"
    chosen.end_trial(trial)


def test_a_new_trial_is_written_before_the_oracle_and_only_by_rename(
    tmp_path, monkeypatch
):
    written = []
    write_json = crash_safe_oracles.write_json

    def record(path, content):
        written.append(path.name)
        write_json(path, content)

    monkeypatch.setattr(crash_safe_oracles, "write_json", record)
    chosen = made("random", tmp_path)
    trial = chosen.create_trial("tuner0")
    assert written == ["trial.json", "oracle.json"]
    written.clear()
    finish(chosen, trial)
    assert written[-1] == "oracle.json"
    # Nothing was written in another way: the same names, and no others, are on disk.
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"trial.json", "oracle.json"} == set(written)


@pytest.mark.parametrize("name", ["search1", "search[1]"])
def test_running_trials_are_the_first_to_be_handed_out_after_a_reload(tmp_path, name):
    (tmp_path / name).mkdir()
    before = made("random", tmp_path / name)
    trials = [before.create_trial(f"tuner{index}").trial_id for index in range(3)]
    if name == "search[1]":  # a pattern that another search's path fits
        finish((other := made("random", tmp_path / "search1")), other.create_trial("x"))
    after = made("random", tmp_path / name)
    assert after._retry_queue == []
    after.reload()
    assert {trial.status for trial in after.trials.values()} == {"RUNNING"}
    assert [after.create_trial(f"new{index}").trial_id for index in range(3)] == trials
    assert after.create_trial("new3").trial_id not in trials


class Flat:
    """Stands for the Gaussian process: every setting is equally promising."""

    def fit(self, x, y):
        pass

    def predict(self, x, return_std):
        return np.zeros(len(x)), np.ones(len(x))


def after_the_random_draws(directory):
    chosen = made("bayesian", directory)
    chosen.num_initial_points = 2
    chosen.gpr = Flat()
    for _ in range(2):
        finish(chosen, chosen.create_trial("tuner0"))
    return chosen


def test_the_bayesian_search_draws_from_our_generator(tmp_path, monkeypatch):
    chosen, drawn = after_the_random_draws(tmp_path), []

    def record(vector):
        drawn.append(vector)
        return {"heads": 0}

    monkeypatch.setattr(chosen, "_vector_to_values", record)
    for state in (1, 2):  # whatever the generator was before
        chosen._random_state = np.random.RandomState(state)
        chosen.populate_space("2")
    expected = np.random.RandomState([chosen.seed, 2]).uniform(size=len(drawn[0]))
    np.testing.assert_allclose(drawn, [expected, expected])


def test_the_bayesian_search_replaces_a_setting_that_was_tried(tmp_path, monkeypatch):
    chosen = after_the_random_draws(tmp_path)
    tried = chosen.trials["0"].hyperparameters.values
    assert chosen._duplicate(tried)
    monkeypatch.setattr(chosen, "_vector_to_values", lambda vector: dict(tried))
    response = chosen.populate_space("2")
    assert response["status"] == "RUNNING"
    assert not chosen._duplicate(response["values"])


def test_hyperband_names_its_values_as_ours(tmp_path):
    chosen = made("hyperband", tmp_path)
    assert isinstance(chosen, FromScratchHyperband)
    values = HyperbandOracle.populate_space(chosen, "0")
    rounds = {name for name in values["values"] if name.startswith("tuner/")}
    assert rounds == {name for name in chosen.first_values() if "/" in name}


class NoModels(keras_tuner.HyperModel):
    def build(self, hp):
        raise AssertionError("KerasTuner built a model to find the space")


def tuner(directory):
    chosen = made("random", directory)
    return HeadsTuner(chosen, NoModels(), directory, pictures=None)


def test_the_tuner_declares_nothing_and_reloads_by_the_oracles_file(tmp_path):
    first = tuner(tmp_path)  # builds no model
    trial = first.oracle.create_trial("tuner0")
    assert not list(tmp_path.rglob("tuner0.json"))
    assert list(tuner(tmp_path).oracle.trials) == [trial.trial_id]


@pytest.mark.parametrize(("name", "worker"), [("tuner0", True), ("chief", False)])
def test_workers_write_no_files(tmp_path, monkeypatch, name, worker):
    trainer = tuner(tmp_path)
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
    assert trainer._is_worker() is worker
    trainer.save()
    assert (tmp_path / TRIALS / "oracle.json").exists() is not worker
