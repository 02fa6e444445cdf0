"""The space, the oracles that survive a kill, the results, the report, the workers."""

import csv
import itertools
import json
import os
import re
import time

import keras
import keras_tuner
import numpy as np
import pytest
from PIL import Image

import keras_inception as ki
from keras_inception.files import write_json
from tuning import options as command_line
from tuning import plan, report, results, workers
from tuning.crash_safe_oracles import oracle
from tuning.hypermodel import HeadsHyperModel
from tuning.settings import Setting, paper_setting, setting_of, values_of
from tuning.space import Space, endpoints_of_network, fitting_endpoints
from tuning.tuner import record_outcome, search_bar, show_progress

ENDPOINTS = (
    "inception_3a",
    "inception_3b",
    "inception_4a",
    "inception_4b",
    "inception_4c",
    "inception_4d",
    "inception_4e",
    "inception_5a",
)
SPACE = Space(ENDPOINTS, batch_norm=True)


def test_the_space_has_these_parameters_conditions_and_ranges():
    hp = keras_tuner.HyperParameters()
    Space(ENDPOINTS, batch_norm=True, learning_rate=0.02).declare(hp)
    found = {}
    for parameter in hp.space:
        config = parameter.get_config()
        conditions = {c.name: list(c.values) for c in parameter.conditions}
        found[parameter.name] = (type(parameter).__name__, config, conditions)
    assert {name: conditions for name, (_, _, conditions) in found.items()} == {
        "heads": {},
        "places_1": {"heads": [1]},
        "places_2": {"heads": [2]},
        "places_3": {"heads": [3]},
        "weight_1": {"heads": [1, 2, 3]},
        "weight_2": {"heads": [2, 3]},
        "weight_3": {"heads": [3]},
        "schedule": {"heads": [1, 2, 3]},
        "head_dropout": {"heads": [1, 2, 3]},
        "head_width": {"heads": [1, 2, 3]},
        "head_batch_norm": {"heads": [1, 2, 3]},
        "learning_rate": {},
    }
    kinds = {name: kind for name, (kind, _, _) in found.items()}
    assert [kinds[name] for name in ("heads", "places_2", "weight_1")] == [
        "Int",
        "Choice",
        "Float",
    ]
    config = {name: config for name, (_, config, _) in found.items()}
    assert (config["heads"]["min_value"], config["heads"]["max_value"]) == (0, 3)
    assert config["places_1"]["values"] == list(ENDPOINTS)
    for count in (2, 3):
        inside = config[f"places_{count}"]["values"]
        everything = map(" ".join, itertools.combinations(ENDPOINTS, count))
        assert sorted(inside) == sorted(everything)  # in order, none twice
    for head in (1, 2, 3):
        weight = config[f"weight_{head}"]
        assert (weight["min_value"], weight["max_value"]) == (0.01, 1.0)
        assert weight["sampling"] == "log"
    assert config["schedule"]["values"] == ["constant", "linear", "cosine"]
    assert config["head_dropout"]["max_value"] == 0.8
    assert config["head_width"]["values"] == [0.25, 0.5, 1.0]
    rate = config["learning_rate"]
    assert rate["min_value"] == pytest.approx(0.002)
    assert rate["max_value"] == pytest.approx(0.06)
    # the defaults are the paper's setting
    assert setting_of(hp.values) == paper_setting(True, 0.02)
    # by default the learning rate is not searched
    hp = keras_tuner.HyperParameters()
    SPACE.declare(hp)
    assert len(hp.space) == 11


def test_a_smaller_space():
    hp = keras_tuner.HyperParameters()
    space = Space(("inception_3b", "inception_4b"))
    space.declare(hp)
    assert {p.name for p in hp.space} >= {"places_1", "places_2"}
    assert "places_3" not in {p.name for p in hp.space}
    assert space.paper is None
    assert [setting_of(values) for values in space.first] == [Setting({})]
    assert Space(ENDPOINTS, most_heads=1).paper is None


@pytest.mark.parametrize(
    ("architecture", "side"),
    [(ki.GOOGLENET_SMALL, 32), (ki.GOOGLENET_SMALL, 36), (ki.GOOGLENET, 75)],
)
def test_map_sizes_are_those_of_the_built_network(architecture, side):
    model = ki.GoogLeNet((side, side, 3), 3, (), architecture, width=0.03)
    fitting, too_small = fitting_endpoints(architecture, side)
    assert [*fitting, *too_small] == list(ENDPOINTS)
    for name in ENDPOINTS:
        map_side = model.get_layer(name).output.shape[1]
        assert too_small.get(name, map_side) == map_side
        assert (name in fitting) == (map_side >= 5)


def test_endpoints_that_cannot_have_a_head_are_refused():
    assert fitting_endpoints(ki.GOOGLENET_SMALL, 32)[1] == {"inception_5a": 4}
    wanted = ["inception_4d", "inception_3a"]
    assert fitting_endpoints(ki.GOOGLENET_SMALL, 32, wanted)[0] == (
        "inception_3a",
        "inception_4d",
    )
    with pytest.raises(ValueError, match="the Inception modules of googlenet_small"):
        fitting_endpoints(ki.GOOGLENET_SMALL, 64, ["inception_4f"])
    with pytest.raises(ValueError, match="repeated endpoints: inception_4a"):
        fitting_endpoints(ki.GOOGLENET_SMALL, 64, ["inception_4a", "inception_4a"])
    with pytest.raises(ValueError, match="Use a larger --image-size"):
        fitting_endpoints(ki.GOOGLENET, 32)


def test_a_setting_survives_values_and_32_bits():
    setting = Setting(
        {"inception_3b": 0.0123, "inception_4e": 0.3},
        "cosine",
        head_dropout=0.55,
        head_width=0.25,
        head_batch_norm=True,
        learning_rate=0.0234,
    )
    values = values_of(setting)
    assert setting_of(values) == setting
    rounded = {k: float(np.float32(v)) for k, v in values.items() if type(v) is float}
    assert setting_of(values | rounded) == setting
    assert setting.summary == (
        "3b 0.0123, 4e 0.3, cosine, dropout 0.55, width 0.25, batch norm, rate 0.0234"
    )
    assert setting_of(values_of(Setting({}))) == Setting({})


def test_the_model_of_a_trial_is_the_setting():
    hypermodel = HeadsHyperModel(
        SPACE, 3, 32, ki.GOOGLENET_SMALL, steps_per_epoch=7, width=0.125
    )
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    hp.values = values_of(
        Setting(
            {"inception_3b": 0.02, "inception_4c": 0.5},
            head_dropout=0.25,
            head_width=0.5,
            head_batch_norm=False,
            learning_rate=0.004,
        )
    )
    model = hypermodel.build(hp)
    assert model.heads == ["aux_3b", "aux_4c"]
    weights = {name: float(w) for name, w in model.auxiliary_weights.items()}
    assert weights == pytest.approx({"aux_3b": 0.02, "aux_4c": 0.5})
    assert model.get_layer("aux_3b_fc").units == 512
    assert model.get_layer("aux_3b_conv").filters == 64
    assert model.get_layer("aux_3b_drop_fc").rate == 0.25
    names = {layer.name for layer in model.layers}
    assert "inception_3b_1x1_bn" in names  # the recipe's trunk has it
    assert "aux_3b_conv_bn" not in names
    assert float(model.optimizer.learning_rate) == pytest.approx(0.004)
    hp.values = values_of(Setting({}))
    assert hypermodel.build(hp).heads == []


def score(setting: Setting) -> float:
    """An accuracy that depends on the setting alone."""
    weights = setting.weight_by_endpoint.values()
    return 0.4 + 0.1 * len(weights) - 0.05 * sum(weights) ** 2


class Killed(Exception):
    pass


def searched(kind, directory, *, trials=9, kill=lambda trial, where: False, seeds=1):
    """Runs an oracle without training anything.

    `kill(trial, where)` returns whether to kill it; `where` counts the files written
    while a trial begins and ends.
    """
    made = oracle(kind, SPACE, trials=trials, epochs=9, seed=3)
    made._set_project_dir(str(directory), results.TRIALS)
    if (directory / results.TRIALS / "oracle.json").exists():
        made.reload()
    count = itertools.count()

    def writes(write):
        def write_or_die(*arguments):
            write(*arguments)
            if kill(len(made.trials), next(count)):
                raise Killed

        return write_or_die

    made.save, made._save_trial = writes(made.save), writes(made._save_trial)
    while True:
        trial = made.create_trial("tuner0")
        if trial.status == "STOPPED":
            return made
        setting = setting_of(trial.hyperparameters.values)
        path = directory / results.TRIALS / f"trial_{trial.trial_id}"
        for seed in range(seeds):
            accuracy = score(setting) + (0.01 if seed else -0.01)
            (path / f"execution_{seed}").mkdir(exist_ok=True)
            result = {"val_main_accuracy": accuracy, "seconds": 1.5}
            write_json(path / f"execution_{seed}/result.json", result)
        made.update_trial(trial.trial_id, {"val_main_accuracy": score(setting)})
        trial.status = "COMPLETED"
        made.end_trial(trial)
        count = itertools.count()


def tried(directory):
    """Values and score of each trial by its number, read from its file."""
    found = {}
    for path in directory.glob("trials/*/trial.json"):
        state = json.loads(path.read_text())
        assert state["status"] == "COMPLETED"
        values = state["hyperparameters"]["values"]
        found[int(state["trial_id"])] = values, state["score"]
    return found


@pytest.mark.parametrize("kind", ["random", "bayesian", "hyperband"])
def test_a_killed_search_ends_with_the_trials_it_would_have_had(kind, tmp_path):
    """Killed after each file that is written, each time in a later trial."""
    trials = 7 if kind == "bayesian" else 9
    searched(kind, tmp_path / "whole", trials=trials)
    expected = tried(tmp_path / "whole")
    assert sorted(expected) == list(range(trials))
    settings = [setting_of(expected[number][0]) for number in range(trials)]
    assert settings[:2] == [paper_setting(True), Setting({})]
    for setting in settings:
        order = [ENDPOINTS.index(name) for name in setting.weight_by_endpoint]
        assert order == sorted(set(order))
        assert len(order) <= 3
        weights = setting.weight_by_endpoint.values()
        assert all(0.01 <= weight <= 1 for weight in weights)
    kills = 0
    for where in range(6):  # files are written while a trial begins and ends
        try:
            searched(
                kind,
                tmp_path / "killed",
                trials=trials,
                kill=lambda trials, count, where=where: (
                    trials > where and count == where
                ),
            )
        except Killed:
            kills += 1
    assert kills == 6
    searched(kind, tmp_path / "killed", trials=trials)
    assert tried(tmp_path / "killed") == expected
    searched(kind, tmp_path / "killed", trials=trials)  # nothing is left to do
    assert tried(tmp_path / "killed") == expected


def test_no_setting_is_tried_twice_and_more_trials_extend_a_search(tmp_path):
    searched("random", tmp_path, trials=6)
    six = tried(tmp_path)
    searched("random", tmp_path, trials=12)
    twelve = tried(tmp_path)
    assert {number: twelve[number] for number in six} == six
    assert len(twelve) == 12
    assert len({str(values) for values, _ in twelve.values()}) == 12


def test_hyperband_trains_the_references_for_all_epochs(tmp_path):
    searched("hyperband", tmp_path, trials=25)
    epochs = {n: values["tuner/epochs"] for n, (values, _) in tried(tmp_path).items()}
    assert epochs[0] == epochs[1] == 9
    assert {1, 3, 9} <= set(list(epochs.values())[2:])
    (tmp_path / "search.json").write_text(json.dumps(CHOICES))
    search = results.read(tmp_path)
    assert {trial.epochs for trial in search.finished} == {9}
    assert search.paper.number == 0


def test_three_failures_in_a_row_end_a_search(tmp_path):
    made = oracle("random", SPACE, trials=9, epochs=2, seed=0)
    made._set_project_dir(str(tmp_path), results.TRIALS)
    for _ in range(3):
        trial = made.create_trial("tuner0")
        trial.status = "INVALID"
        made.end_trial(trial)
    assert made.create_trial("tuner0").status == "STOPPED"
    assert {trial.status for trial in made.trials.values()} == {"FAILED"}


def test_a_search_is_not_resumed_on_other_pictures(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("RGB", (32, 32), (40 * number, 0, 0))
            picture.save(folder / name / f"{number}.png")
    words = [str(folder), "--width", "0.1", "--endpoints", "inception_4a"]

    def begin():
        choices = plan.make_plan(command_line.parse(words, "")).choices
        with plan.hold_directory(tmp_path / "search", choices, overwrite=False):
            pass

    begin()
    begin()
    (folder / "ant").rename(folder / "wasp")  # which turns the order
    with pytest.raises(ValueError, match=r"class_names was \['ant', 'bee'\], is"):
        begin()
    (folder / "wasp").rename(folder / "ant")
    Image.new("RGB", (99, 98)).save(folder / "ant/0.png")
    with pytest.raises(ValueError, match="choices: the pictures, their labels or"):
        begin()
    # the file of an earlier version does not know its pictures
    file = tmp_path / "search/search.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({k: known[k] for k in known.keys() - plan.NEW_CHOICES}))
    begin()


CHOICES = {
    "name": "some",
    "train": 60,
    "validation": 20,
    "classes": 3,
    "architecture": "googlenet_small",
    "image_size": 64,
    "width": 0.5,
    "recipe": "small",
    "epochs": 9,
    "learning_rate": 0.02,
    "tune_learning_rate": False,
    "batch_norm": True,
    "places": list(ENDPOINTS),
    "most_heads": 3,
    "tuner": "random",
    "executions": 2,
    "seed": 0,
    "trials": 9,
}


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A finished search with two seeds, with made-up accuracies."""
    directory = tmp_path_factory.mktemp("search")
    searched("random", directory, seeds=2)
    (directory / "search.json").write_text(json.dumps(CHOICES))
    found = results.read(directory)
    results.write(found, directory)
    report.write(found, directory)
    return directory


def test_the_results_quantify_noise(search):
    found = results.read(search)
    assert (found.paper.number, found.no_heads.number) == (0, 1)
    assert found.no_heads.accuracy == pytest.approx(0.4)
    # every setting's two seeds are 0.02 apart: 0.02 / sqrt(2)
    assert found.noise == pytest.approx(0.0141421, abs=1e-6)
    assert found.detectable_difference == pytest.approx(2 * 0.0141421, abs=1e-5)
    # the expected maximum of 9 normal draws is 1.485 (tables of order statistics)
    assert found.selection_bias == pytest.approx(1.485 * 0.01, rel=0.01)
    best = max(found.trials, key=lambda trial: score(trial.setting))
    assert found.best == best
    text = " ".join(report.conclusions(found))
    assert f"trial {best.number}" in text
    assert "The paper's setting: 0.5820 ± 0.0141." in text
    assert "differences below 0.0283 are not detectable" in text
    assert "above no heads: a detectable difference" in text


def test_one_setting_with_several_seeds_has_conclusions(tmp_path):
    trial = results.Trial(0, paper_setting(True), "COMPLETED", (0.4, 0.5), 9)
    alone = results.Search(CHOICES, (trial,))
    assert alone.selection_bias is None
    assert "The paper's setting: 0.4500" in " ".join(report.conclusions(alone))


def test_the_bar_counts_epochs_over_trials_and_executions():
    half = results.Trial(1, Setting({}), "RUNNING", (0.4,), 9)
    failed = results.Trial(2, Setting({}, "linear"), "FAILED", (), 9)
    done = results.Trial(0, paper_setting(True), "COMPLETED", (0.4, 0.5), 9)
    with search_bar() as bar:
        show_progress(bar, results.Search(CHOICES, ()))
        assert (bar.n, bar.total) == (0, 9 * 2 * 9)
        show_progress(bar, results.Search(CHOICES, (done, half, failed)))
        assert bar.n == 9 * 3
        assert bar.total == 9 * 3 + 9 + 6 * 2 * 9  # the failed trial's are not to do
        # Hyperband: the trials to come are taken to be as long as those so far
        short = results.Trial(1, Setting({}), "COMPLETED", (0.4, 0.5), 3)
        show_progress(bar, results.Search(CHOICES, (done, short)))
        assert (bar.n, bar.total) == (24, 24 + 7 * 2 * 6)


def test_the_table_and_the_best(search):
    with (search / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["trial"] for row in table] == [str(number) for number in range(9)]
    assert table[0]["what"] == "paper"
    assert table[0]["places"] == "4a 4d"
    assert table[0]["weights"] == "0.3 0.3"
    assert table[1]["what"] == "no heads"
    assert table[1]["accuracies"] == "0.3900 0.4100"
    assert table[1]["spread"] == "0.0141"
    best = json.loads((search / "best.json").read_text())
    found = results.read(search)
    assert best["hyperparameters"] == found.best.setting.hyperparameters
    assert best["paper"] == pytest.approx(0.582)
    assert best["no_heads"] == pytest.approx(0.4)
    assert len(best["accuracies"]) == 2


def test_the_report_is_one_file_with_conclusions_trials_and_plots(search):
    html = (search / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', html)
    for sentence in report.conclusions(results.read(search)):
        assert sentence.split(":")[0].replace("'", "&#x27;") in html
    assert html.count("<tr>") == 10
    png = (search / "report.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    found = results.read(search)
    figure = report.draw(found)
    ranking, endpoint, weight = figure.axes[:3]  # the fourth is the color scale
    names = [label.get_text() for label in ranking.get_yticklabels()]
    assert names[-1].endswith(f"({found.best.number})")
    assert {"paper  (0)", "no heads  (1)"} <= set(names)
    assert [label.get_text() for label in endpoint.get_xticklabels()] == [
        name.removeprefix("inception_") for name in ENDPOINTS
    ]
    assert weight.get_xscale() == "log"


def test_an_unfinished_search_can_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not hold a search"):
        results.read(tmp_path)
    (tmp_path / "search.json").write_text(json.dumps(CHOICES | {"executions": 1}))
    assert report.conclusions(results.read(tmp_path)) == ["No trial is finished."]
    results.write(results.read(tmp_path), tmp_path)
    assert not (tmp_path / "best.json").exists()
    with pytest.raises(Killed):
        searched("random", tmp_path, kill=lambda trials, count: trials > 3)
    found = results.read(tmp_path)
    assert [trial.status for trial in found.trials] == ["COMPLETED"] * 3 + ["RUNNING"]
    assert "Use --executions 3 or more" in report.conclusions(found)[-1]
    assert found.noise is None
    report.write(found, tmp_path)


def test_a_trial_that_kills_its_process_twice_fails(tmp_path):
    trial = tmp_path / "trials/trial_4"
    trial.mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), record_outcome(trial, "tuner1"):
            raise KeyboardInterrupt  # stands for a kill
        known = json.loads((trial / "worker.json").read_text())
        write_json(trial / "worker.json", known | {"ended": False})
        assert workers.record_death(tmp_path, "tuner0") == 0
        assert workers.record_death(tmp_path, "tuner1") == 0
    with (
        pytest.raises(RuntimeError, match="its process died 2 times"),
        record_outcome(trial, "tuner1"),
    ):
        raise AssertionError
    assert "died 2 times" in (trial / "error.json").read_text()
    assert workers.record_death(tmp_path, "tuner1") == 1


def test_workers_share_the_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3})
    assert workers.share_of_machine(0, 2, {}) == ({}, [0, 2])
    assert workers.share_of_machine(1, 2, {}) == ({}, [1, 3])
    assert workers.share_of_machine(4, 5, {}) == ({}, None)
    gpus = {"CUDA_VISIBLE_DEVICES": "0,2"}
    assert workers.share_of_machine(2, 4, gpus)[0] == {"CUDA_VISIBLE_DEVICES": "0"}
    assert workers.share_of_machine(3, 4, gpus)[0] == {"CUDA_VISIBLE_DEVICES": "2"}


@pytest.mark.parametrize(("chief", "status"), [("exit 0", 0), ("exit 3", 3)])
def test_workers_are_stopped_when_the_chief_has_ended(
    tmp_path, monkeypatch, chief, status
):
    """A worker that starts late would call for an hour a chief that has ended."""
    python = tmp_path / "python"
    pid = tmp_path / "pid"
    python.write_text(
        f'#!/bin/sh\n[ "$KERASTUNER_TUNER_ID" = chief ] && {chief}\n'
        f"echo $$ > {pid}.part && mv {pid}.part {pid}\nexec sleep 600\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    began = time.monotonic()
    assert workers.launch([], 1, tmp_path) == status
    assert time.monotonic() - began < 60
    if pid.exists():  # else it was stopped before it had written
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_a_chief_that_is_killed_ends_the_search(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\n[ "$KERASTUNER_TUNER_ID" = chief ] && kill -9 $$\nexec sleep 600\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(RuntimeError, match=r"chief was killed \(-9\)"):
        workers.launch([], 1, tmp_path)


def test_a_widened_head():
    head = ki.AuxiliaryHead("inception_4a", dropout=0.5).widened(0.25)
    assert (head.filters, head.units, head.dropout) == (32, 256, 0.5)
    with pytest.raises(ValueError, match="above 0"):
        head.widened(0)


def test_endpoints_of_any_network_come_in_network_order():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="one")(inputs)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="two")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    assert endpoints_of_network(model, ["two", "one"]) == ("one", "two")
    with pytest.raises(ValueError, match="three"):
        endpoints_of_network(model, ["three"])
