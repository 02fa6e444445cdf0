"""`python -m tuning.search` as a person types it, and `train` with its result."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import hparams, logged

import keras_inception_cli
from keras_inception.training.past_runs import read_runs
from keras_inception_cli import train_options
from keras_inception_cli.train_config import TrainConfig
from keras_inception_cli.train_heads import build_heads
from tuning import results, search
from tuning.crash_safe_oracles import oracle
from tuning.settings import short
from tuning.space import Space, fitting_endpoints

ROOT = Path(__file__).parents[1]
TINY = ["--epochs", "1", "--width", "0.125", "--batch-size", "16", "--seed", "5"]
ENDPOINTS = ["inception_4a", "inception_4d"]
SEARCH = ["--tuner", "random", "--endpoints", *ENDPOINTS, "--trials", "3"]


def words_of(data, directory, *more):
    return [str(word) for word in (data, "--directory", directory, *TINY, *more)]


def begin(data, directory, *more, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tuning.search", *words_of(data, directory, *more)],
        cwd=ROOT,
        **options,
    )


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the search ended too early"
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory, colors):
    """A search of three trials, killed in the second and resumed in this process.

    `test_tuning.py` kills searches in every trial, without training anything.
    """
    directory = tmp_path_factory.mktemp("searches") / "one"
    process = begin(colors, directory, *SEARCH, stdout=subprocess.DEVNULL)
    wait_for((directory / "trials/trial_1/execution_0/config.json").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (done,) = directory.glob("trials/*/*/result.json")
    before = done.read_text()
    assert search.main(words_of(colors, directory, *SEARCH)) == 0
    assert done.read_text() == before  # a finished execution is not repeated
    return directory


@pytest.mark.slow
def test_a_killed_search_ends_with_the_trials_it_would_have_had(
    killed_and_resumed, tmp_path
):
    """Compared with an oracle alone, whose draws do not depend on accuracies."""
    import keras_inception as ki

    endpoints, _ = fitting_endpoints(ki.GOOGLENET_SMALL, 32, ENDPOINTS)
    space = Space(endpoints, batch_norm=True)
    made = oracle("random", space, trials=3, epochs=1, seed=5)
    made._set_project_dir(str(tmp_path), results.TRIALS)
    expected = {}
    for number in range(3):
        trial = made.create_trial("tuner0")
        expected[number] = trial.hyperparameters.values
        made.update_trial(trial.trial_id, {"val_main_accuracy": 0.5})
        trial.status = "COMPLETED"
        made.end_trial(trial)
    found = {}
    for path in killed_and_resumed.glob("trials/*/trial.json"):
        state = json.loads(path.read_text())
        assert state["status"] == "COMPLETED"
        found[int(state["trial_id"])] = state["hyperparameters"]["values"]
    assert found == expected


def test_a_search_writes_its_results(killed_and_resumed, colors, capsys):
    directory = killed_and_resumed
    with (directory / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["what"] for row in table][:2] == ["paper", "no heads"]
    assert {row["status"] for row in table} == {"completed"}
    best = json.loads((directory / "best.json").read_text())
    accuracies = [float(row["val_main_accuracy"]) for row in table]
    assert best["val_main_accuracy"] == pytest.approx(max(accuracies), abs=1e-4)
    assert (directory / "report.png").stat().st_size > 10_000
    assert "data:image/png" in (directory / "report.html").read_text()
    assert not list(directory.rglob("*.keras"))
    # `keras-inception runs` reads each execution
    runs, errors = read_runs(directory / "trials/trial_0")
    assert [(run.name, run.state) for run in runs] == [("execution_0", "finished")]
    assert errors == {}
    assert runs[0].config.heads == tuple(ENDPOINTS)
    # TensorBoard's HParams tab takes its columns from the first trial that it finds, so
    # each trial must name the columns of all.
    for number in range(3):
        log = directory / f"trials/trial_{number}/execution_0/tensorboard"
        assert "accuracy/main" in logged(log)["validation"]
        columns, filled = hparams(log)
        assert {"heads", "schedule", "head width", "epochs", "seed"} <= columns
        assert {f"weight {short(endpoint)}" for endpoint in ENDPOINTS} <= columns
        assert "heads" in filled
        assert filled <= columns
        assert ("schedule" in filled) == (number != 1)  # it has no heads
    # Run again, it has nothing left to train and prints the same.
    assert search.main(words_of(colors, directory, *SEARCH)) == 0
    output = capsys.readouterr().out
    assert "resuming: 3 trials are done" in output
    assert f"The best of 3 settings is trial {best['trial']} " in output
    assert f"--hyperparameters {directory}/best.json" in output


@pytest.mark.slow
def test_train_takes_what_was_found_and_ends_the_same(
    killed_and_resumed, colors, tmp_path
):
    """A trial trained again by the command gives the same result to the bit."""
    found = results.read(killed_and_resumed).trials[2]
    file = tmp_path / "best.json"
    file.write_text(json.dumps({"hyperparameters": found.setting.hyperparameters}))
    words = ["train", colors, "--hyperparameters", file, "--runs", tmp_path, *TINY]
    assert keras_inception_cli.main([str(word) for word in words]) == 0
    run = tmp_path / colors.name
    result = json.loads((run / "result.json").read_text())
    assert (result["val_main_accuracy"],) == found.accuracies
    config = json.loads((run / "config.json").read_text())
    assert config["heads"] == list(found.setting.weight_by_endpoint)
    assert config["head_width"] == found.setting.head_width
    history = killed_and_resumed / "trials/trial_2/execution_0/history.csv"
    assert (run / "history.csv").read_text() == history.read_text()


def settled(*words):
    import argparse

    parser = argparse.ArgumentParser()
    train_options.add_arguments(parser)
    words = [str(word) for word in ("digits", *words)]
    return TrainConfig.resolve(parser.parse_args(words))


def test_the_command_line_wins_over_what_was_found(tmp_path):
    file = tmp_path / "best.json"
    weights = {"aux_3b": 0.02, "aux_4c": 0.5}
    found = {
        "heads": ["inception_3b", "inception_4c"],
        "aux_weight": weights,
        "aux_schedule": "cosine",
        "head_dropout": 0.25,
        "head_width": 0.5,
        "head_batch_norm": False,
        "learning_rate": 0.004,
    }
    file.write_text(json.dumps({"hyperparameters": found, "trial": 3}))
    taken = settled("--hyperparameters", file)
    for name, value in (found | {"heads": tuple(found["heads"])}).items():
        assert getattr(taken, name) == value
    built = build_heads(taken, ["a", "b"], False)
    assert [(head.at, head.units, head.filters) for head in built] == [
        ("inception_3b", 512, 64),
        ("inception_4c", 512, 64),
    ]
    assert {(head.dropout, head.batch_norm) for head in built} == {(0.25, False)}
    assert build_heads(settled(), ["a", "b"], True) == ENDPOINTS
    assert "hyperparameters" not in taken.as_json()
    typed = settled("--hyperparameters", file, "--learning-rate", 0.1)
    assert (typed.learning_rate, typed.aux_weight) == (0.1, weights)
    typed = settled("--hyperparameters", file, "--aux-weight", "aux_3b=1,aux_4c=2")
    assert typed.aux_weight == {"aux_3b": 1.0, "aux_4c": 2.0}
    # the weights are those of the search's own heads
    typed = settled("--hyperparameters", file, "--heads", "inception_4a")
    assert (typed.heads, typed.aux_weight) == (("inception_4a",), 0.3)
    # best.json takes precedence over another run's config
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"data": "digits", "heads": [], "epochs": 77}))
    both = settled("--hyperparameters", file, "--config", config)
    assert (both.heads, both.epochs) == (tuple(found["heads"]), 77)
    with pytest.raises(SystemExit):
        settled("--aux-weight", "aux_3b")
    file.write_text(json.dumps({"hyperparameters": {"heads": [], "color": "red"}}))
    with pytest.raises(ValueError, match=r"is not the best\.json of a search"):
        settled("--hyperparameters", file)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        settled("--hyperparameters", tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", "0"], "--trials must be at least 1"),
        (["--most-heads", "4"], "--most-heads must be at most 3"),
        (["--width", "0"], "--width must be above 0"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--endpoints", "inception_9z"], "the Inception modules of googlenet_small"),
        (["--places", "inception_5a"], "5a has 4x4. Use a larger --image-size"),
        (
            ["--architecture", "googlenet", "--image-size", "32"],
            "no endpoint of googlenet",
        ),
    ],
)
def test_bad_input_is_refused_before_any_trial(words, message, tmp_path, capsys):
    directory = tmp_path / "search"
    assert search.main(["digits", "--directory", str(directory), *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not directory.exists()


def test_data_without_validation_is_refused(colors, tmp_path, capsys):
    root = tmp_path / "pictures"
    shutil.copytree(colors, root / "train")
    for name in ("red", "blue"):
        (root / "val" / name).mkdir(parents=True)
        (root / "val" / name / "1.png").write_text("no picture")
    words = [root, "--max-bad-fraction", "0.5", "--directory", tmp_path / "search"]
    assert search.main([str(word) for word in words]) == 1
    assert "has no usable validation pictures" in capsys.readouterr().err
    assert not (tmp_path / "search").exists()


def test_another_search_is_not_resumed(killed_and_resumed, tmp_path, capsys):
    colors = results.read(killed_and_resumed).choices["data"]
    words = words_of(colors, killed_and_resumed, *SEARCH)
    assert search.main([*words, "--executions", "2"]) == 1
    assert "other choices: executions was 1, is 2" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("precious")
    words = words_of(colors, tmp_path, "--overwrite")
    assert search.main(words) == 1
    assert "is not a search's directory" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").exists()


def test_help_is_instant():
    code = "import sys, tuning.search\nassert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_workers_do_every_trial_once_even_if_one_dies(
    killed_and_resumed, colors, tmp_path
):
    """A worker and then the launcher are killed; the trials are as in one process."""
    more = [*SEARCH, "--trials", "4", "--workers", "2"]  # the last --trials counts
    directory = tmp_path / "together"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = begin(colors, directory, *more, **quiet)
    wait_for((directory / "trials/trial_1/worker.json").exists, process)
    worker = json.loads((directory / "trials/trial_1/worker.json").read_text())
    os.kill(process_of(worker["worker"]), signal.SIGKILL)
    wait_for((directory / "trials/trial_2/worker.json").exists, process)
    process.kill()  # the processes that it launched end too
    error = process.communicate()[1]
    assert f"{worker['worker']} died (-9) and is restarted" in error
    deadline = time.monotonic() + 20
    while any(process_of(name) for name in ("chief", "tuner0", "tuner1")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process = begin(colors, directory, *more, **quiet)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    assert not any(process_of(name) for name in ("chief", "tuner0", "tuner1"))
    mine, alone = results.read(directory), results.read(killed_and_resumed)
    assert {trial.status for trial in mine.trials} == {"COMPLETED"}
    assert [trial.number for trial in mine.trials] == [0, 1, 2, 3]
    assert [(t.setting, t.accuracies) for t in mine.trials[:3]] == [
        (t.setting, t.accuracies) for t in alone.trials
    ]
    for name in ("tuner0", "tuner1"):
        log = (directory / f"logs/{name}.log").read_text().splitlines()
        assert log[-1] == "no trials are left"
        assert any(f"{name} works for the chief at 127.0.0.1:" in line for line in log)
        assert not any(line.isdigit() for line in log)  # KerasTuner's own prints


def process_of(name: str) -> int | None:
    """The process of this test with this name in KerasTuner's variables."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            f"KERASTUNER_TUNER_ID={name}".encode() in environment
            and f"PYTEST_CURRENT_TEST={os.environ['PYTEST_CURRENT_TEST']}".encode()
            in environment
        ):
            return int(path.parent.name)
    return None
