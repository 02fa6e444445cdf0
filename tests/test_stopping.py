"""What a run chooses by itself, how long it takes, and what ends it early."""

import argparse
import io
import os
import re
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_pictures, small_supervised
from PIL import Image
from test_runs import Batches, Slow, assert_equal_runs, config, train_on

import keras_inception as ki
from keras_inception import training
from keras_inception.training.pace import Pace
from keras_inception_cli import train_options, train_plan
from keras_inception_cli.train_config import TrainConfig
from keras_inception_cli.train_options import _seconds


def validation():
    return tf.data.Dataset.from_tensor_slices(small_pictures()).batch(6)


@pytest.mark.parametrize(
    ("limits", "epochs", "stopped"),
    [
        ({"patience": 3}, 4, "patience"),  # the first epoch is the best
        ({"patience": 20}, 6, None),
        ({"time_limit": 0.01}, 1, "time limit"),
        ({"time_limit": 1000.0}, 6, None),
        ({"time_limit": 0.01, "patience": 1}, 1, "time limit"),
    ],
)
def test_a_run_ends_early(tmp_path, limits, epochs, stopped):
    model = small_supervised()
    model.compile(keras.optimizers.SGD(0.0))  # so that no epoch is better
    run = training.RunDirectory.create(tmp_path / "run")
    result = training.train(
        model, Batches(), validation(), run, config=config(6), **limits
    )
    assert (result["epochs"], result["stopped"]) == (epochs, stopped)
    assert result["best_epoch"] == 1
    assert run.read_result() == result


def test_time_that_an_interrupted_run_took_counts(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_on(tmp_path / "run", stop_in=4)
    run = training.RunDirectory(tmp_path / "run")
    model, state = run.checkpoint()
    assert state["epochs"] == 1
    state["seconds"] = 100.0
    result = training.train(
        model,
        Batches(1),
        validation(),
        run,
        config=config(6),
        state=state,
        time_limit=100.01,
    )
    assert (result["epochs"], result["stopped"]) == (2, "time limit")


class Press(keras.callbacks.Callback):
    """Presses Ctrl-C in some steps."""

    def __init__(self, *steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) in self.steps:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_after_the_epoch_and_the_run_resumes_exactly(tmp_path, capsys):
    whole = train_on(tmp_path / "whole")
    before = signal.getsignal(signal.SIGINT)
    with (
        pytest.raises(training.Interrupted, match="after epoch 2 of 6; --resume"),
        training.first_interrupt() as interrupted,
    ):
        train_on(tmp_path / "run", callbacks=[Press(5)], interrupted=interrupted)
    assert "press Ctrl-C again to stop now" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run/result.json").exists()
    with (
        pytest.raises(KeyboardInterrupt) as stop,
        training.first_interrupt() as interrupted,
    ):
        train_on(tmp_path / "run", callbacks=[Press(7, 8)], interrupted=interrupted)
    assert not isinstance(stop.value, training.Interrupted)
    assert training.RunDirectory(tmp_path / "run").epochs_done() == 2
    assert_equal_runs(whole, train_on(tmp_path / "run"))


@pytest.mark.slow
def test_the_command_is_interrupted_in_one_line(colors, tmp_path):
    words = ["train", colors, "--runs", tmp_path, "--width", 0.0625, "--epochs", 500]
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_inception_cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "1/500" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert "stopping after this epoch" in out
    assert "of 500; --resume continues the run in" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("facts", "settings"),
    [
        # the pictures, their size; what is chosen
        ((1_437, 8), {"recipe": "small", "epochs": 10}),
        ((50_000, 32), {"recipe": "small", "epochs": 10}),
        ((320, 64), {"recipe": "finetune", "weights": "imagenet"}),
        ((134, 375), {"recipe": "finetune", "weights": "imagenet"}),
        ((1_281_167, 375), {"recipe": "small", "epochs": 10}),
    ],
)
def test_the_plan_suits_the_pictures(facts, settings):
    plan = training.make_plan(*facts, can_fetch_weights=lambda: True)
    assert settings.items() <= plan.settings.items()


def test_the_plan_asks_for_weights_only_where_they_help():
    def fail():
        raise AssertionError

    training.make_plan(1_437, 8, can_fetch_weights=fail)
    training.make_plan(320, 64, weights=True, can_fetch_weights=fail)
    plan = training.make_plan(320, 64, can_fetch_weights=lambda: False)
    assert "weights" not in plan.settings
    assert plan.settings["epochs"] > 10  # ten epochs would be 100 steps
    typed = training.make_plan(320, 64, epochs=7, batch_size=10)
    assert "epochs" not in typed.settings
    assert typed.settings["batch_size"] == 10


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Forty pictures of 64 pixels in two classes."""
    root = tmp_path_factory.mktemp("plan")
    for name in ("a", "b"):
        (root / name).mkdir()
        for number in range(20):
            picture = Image.new("RGB", (64, 64), (number * 9, 40, 90))
            picture.save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("words", "there", "recipe", "weights", "said"),
    [
        ([], True, "finetune", "imagenet", "fine-tuning ImageNet's weights"),
        ([], False, "small", None, "no network here"),
        (["--weights", "none"], True, "small", None, "from random weights"),
        (["--width", "0.5"], True, "small", None, "from random weights"),
        (
            ["--weights", "a.keras"],
            True,
            "finetune",
            "a.keras",
            "fine-tuning trained weights",
        ),
        (
            ["--weights", "a.keras", "--freeze", "inception_5b"],
            *(True, "small", "a.keras", "fine-tuning trained weights"),
        ),
        (["--recipe", "paper"], True, "paper", None, ""),
        (
            ["--network", "mobilenet_v3_small"],
            *(True, "small", None, "from random weights"),
        ),
    ],
)
def test_train_says_what_it_chose(
    words, there, recipe, weights, said, photographs, monkeypatch, capsys
):
    def imagenet_weights():
        if not there:
            raise OSError("no network here")

    monkeypatch.setattr(ki.weights, "imagenet_weights", imagenet_weights)
    parser = argparse.ArgumentParser()
    train_options.add_arguments(parser)
    options = parser.parse_args([str(photographs), *words])
    config = TrainConfig.resolve(options)
    source = ki.data.find(config.data)
    capsys.readouterr()
    config = train_plan.fit_to_pictures(options, config, source)
    assert (config.recipe, config.weights) == (recipe, weights)
    printed = capsys.readouterr().out
    assert said in printed
    assert (f"--recipe {recipe}" in printed) == (recipe != "paper")
    from_random = recipe == "small" and weights is None and "--network" not in words
    assert ("fewer than 50 pictures of a class" in printed) == from_random
    assert ("--width 0.25" in printed) == (from_random and "--width" not in words)


def test_pace_measures_without_changing_the_model():
    model = small_supervised()
    before = [np.array(v) for v in model.variables]
    pace = training.measure_pace(model, Batches(), steps=3, validation_steps=2)
    assert pace.count >= 20
    assert pace.step > 0
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, variable.path)


def test_the_time_left_is_printed_once(tmp_path):
    model, stream = small_supervised(), io.StringIO()
    pace = Pace(validation_steps=2)
    model.fit(
        Batches(),
        validation_data=validation(),
        epochs=9,
        verbose=0,
        callbacks=[pace, Slow(0.05), training.Progress(pace, stream)],
    )
    lines = [line for line in stream.getvalue().splitlines() if "left" in line]
    # 27 steps in all, and step 20 is the second of its epoch
    assert len(lines) == 1
    assert re.fullmatch(r"about \d+ s left: 7 steps of .+ s, and validation", lines[0])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_times_are_read(text, seconds):
    assert _seconds(text) == seconds
