"""Unattended runs: alarms, checkpoints, kills, full disks."""

import csv
import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import logged, small_pictures, small_supervised

import keras_inception as ki
from keras_inception import training
from keras_inception.training.alarms import Alarms, DivergenceError
from keras_inception.training.run import make_variables


def config(epochs: int) -> training.RunConfig:
    return training.RunConfig("small", epochs, ("first",), recipe="paper")


def observe(alarms, epochs, model=None):
    """Feeds an alarm with the logs of some epochs."""
    alarms.set_model(model or small_supervised())
    for epoch, logs in enumerate(epochs):
        alarms.on_epoch_begin(epoch)
        alarms.on_epoch_end(epoch, logs)
    return alarms.stream.getvalue()


def test_a_nan_loss_ends_the_run_and_names_the_output(tmp_path):
    alarms = Alarms()
    alarms.set_model(small_supervised())
    alarms.on_epoch_begin(4)
    alarms.on_train_batch_end(0, {"loss": 1.0, "main_loss": 1.0, "aux_loss": 1.0})
    with pytest.raises(DivergenceError, match="loss of aux became inf in epoch 5, st"):
        alarms.on_train_batch_end(
            6, {"loss": math.inf, "main_loss": 1.0, "aux_loss": math.inf}
        )
    # and in a real run, which is left unfinished
    model = small_supervised()
    model.compile(keras.optimizers.SGD(1e30))
    run = training.RunDirectory.create(tmp_path / "run")
    with pytest.raises(DivergenceError, match="The loss of main"):
        training.train(model, Batches(), Batches(), run, config=config(3))
    assert not run.result.exists()


def test_a_head_that_stays_at_chance_is_named():
    chance = math.log(3)
    logs = {"main_loss": chance * 1.001, "aux_loss": 0.5}
    text = observe(Alarms(stream=io.StringIO()), [logs] * 5)
    assert text.count("main has not learned anything in 3 epochs") == 1
    assert "while aux learns" in text
    learning = [{"main_loss": 0.9, "aux_loss": 0.5}] * 5
    assert observe(Alarms(stream=io.StringIO()), learning) == ""
    nobody = [{"main_loss": chance, "aux_loss": chance}] * 5  # too early to tell
    assert observe(Alarms(stream=io.StringIO()), nobody) == ""


def test_main_behind_a_head_is_reported_once():
    behind = {"val_main_accuracy": 0.5, "val_aux_accuracy": 0.6}
    ahead = {"val_main_accuracy": 0.6, "val_aux_accuracy": 0.5}
    text = observe(Alarms(stream=io.StringIO()), [behind, ahead, *[behind] * 6])
    assert text.count("main has been less accurate than aux for 3 epochs") == 1
    # a head for coarser classes has the easier task
    coarse = small_supervised(superclasses=["a", "a", "b"])
    assert observe(Alarms(stream=io.StringIO()), [behind] * 6, coarse) == ""
    first = Alarms(stream=io.StringIO())
    observe(first, [behind] * 2)
    later = Alarms(stream=io.StringIO(), state=json.loads(json.dumps(first.state)))
    assert "for 3 epochs" in observe(later, [behind])


class Batches(keras.utils.PyDataset):
    """Three batches per epoch, in an order that depends on the epoch."""

    def __init__(self, epoch=0):
        super().__init__()
        self.epoch = epoch
        self.images, self.labels = small_pictures()

    def __len__(self):
        return 3

    def __getitem__(self, step):
        order = np.random.default_rng(self.epoch).permutation(12).reshape(3, 4)
        return self.images[order[step]], self.labels[order[step]]

    def on_epoch_end(self):
        self.epoch += 1


class Slow(keras.callbacks.Callback):
    """Slows training down so that it can be killed, and prints each step."""

    def __init__(self, seconds, stop_in=None):
        super().__init__()
        self.seconds, self.stop_in = seconds, stop_in

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)
        print("step", flush=True)
        if self.stop_in is not None and self.model.optimizer.iterations == self.stop_in:
            raise KeyboardInterrupt


def train_on(
    directory,
    epochs=6,
    seconds=0.0,
    stop_in=None,
    file_size=None,
    callbacks=(),
    **arguments,
):
    """Starts or resumes a run with everything that must survive a kill.

    Dropout, momentum, averaged weights, a decaying head weight, a new order in each
    epoch, curves and gradients.
    """
    tf.config.experimental.enable_op_determinism()  # as the command does
    run = training.RunDirectory(directory)
    if run.config.exists():
        run.check_resumable()
    else:
        run = training.RunDirectory.create(directory)
    model, state = run.checkpoint() or (None, None)
    if model is None:
        keras.utils.set_random_seed(3)
        model = small_supervised()
        recipe = training.RECIPES["paper"]
        model.compile(training.optimizer(recipe, epochs, 3), loss_weights=0.4)
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    pictures = small_pictures(4)
    training.train(
        model,
        Batches(state["epochs"] if state else 0),
        tf.data.Dataset.from_tensor_slices(small_pictures()).batch(6),
        run,
        config=config(epochs),
        callbacks=[
            training.AuxiliarySchedule("linear", {"aux": 0.4}),
            training.TensorBoard(run.tensorboard, *pictures, {"seed": 3}),
            ki.GradientFlow(*pictures, run.tensorboard),
            Slow(seconds, stop_in),
            *callbacks,
        ],
        state=state,
        **arguments,
    )
    return run


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train_on(tmp_path_factory.mktemp("runs") / "uninterrupted")


def assert_equal_runs(one, other):
    """Weights, optimizer, dropout, best model, history and curves, to the bit."""
    (first, state), (second, other_state) = one.checkpoint(), other.checkpoint()
    assert len(first.variables) == len(second.variables)
    for mine, theirs in (
        (first.variables, second.variables),
        (first.optimizer.variables, second.optimizer.variables),
        (
            keras.saving.load_model(one.model).weights,
            keras.saving.load_model(other.model).weights,
        ),
    ):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b), a.path)
    assert one.history.read_text() == other.history.read_text()
    for name in ("epochs", "history", "best", "alarms"):
        assert state[name] == other_state[name]
    assert logged(one.tensorboard) == logged(other.tensorboard)
    results = [json.loads(run.result.read_text()) for run in (one, other)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


def test_an_interrupted_run_resumes_exactly(uninterrupted, tmp_path):
    for stop_in in (2, 7, 8, 16):  # in the first epoch, and later
        with pytest.raises(KeyboardInterrupt):
            train_on(tmp_path / "run", stop_in=stop_in)
    run = train_on(tmp_path / "run")
    assert_equal_runs(uninterrupted, run)
    with run.history.open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == list("012345")
    with pytest.raises(FileExistsError, match="finished run; there is nothing to"):
        train_on(tmp_path / "run")


def test_an_empty_validation_split_is_refused(tmp_path):
    run = training.RunDirectory.create(tmp_path / "run")
    nothing = tf.data.Dataset.from_tensor_slices(small_pictures()).batch(6).take(0)
    with pytest.raises(ValueError, match="validation_data has no batch"):
        training.train(small_supervised(), Batches(), nothing, run, config=config(1))
    assert not run.config.exists()


def test_a_step_is_traced_once():
    """Each trace of the step calls `compute_loss`; the compiled steps do not."""
    traces = []

    class Counted(ki.DeeplySupervised):
        def compute_loss(self, *arguments, **keywords):
            traces.append(self.name)
            return super().compute_loss(*arguments, **keywords)

    counts = []
    for made_before in (False, True):
        model = small_supervised()
        model.__class__ = Counted
        if made_before:
            make_variables(model, next(iter(Batches())))
        traces.clear()
        model.fit(Batches(), epochs=2, verbose=0)
        counts.append(len(traces))
    assert counts == [2, 1]  # without and with make_variables


def test_averaged_weights_are_what_is_validated_and_kept(uninterrupted):
    model, state = uninterrupted.checkpoint()
    best = keras.saving.load_model(uninterrupted.model)
    assert state["best"]["epoch"] <= 6
    images, labels = small_pictures()
    logs = best.evaluate(images, labels, verbose=0, return_dict=True)
    assert logs["main_accuracy"] == pytest.approx(state["best"]["value"])
    differs = [
        (np.asarray(a) != np.asarray(b)).any()
        for a, b in zip(
            best.trainable_variables, model.trainable_variables, strict=True
        )
    ]
    assert any(differs)


def in_a_process(directory, **arguments):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import test_runs\ntest_runs.train_on({str(directory)!r}, **{arguments!r})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_resumes_exactly(uninterrupted, tmp_path):
    random = np.random.default_rng(int.from_bytes(os.urandom(4)))
    kills = 0
    for steps in (int(random.integers(1, 8)), int(random.integers(1, 8))):
        process = in_a_process(tmp_path / "run", seconds=0.05)
        for _ in range(steps):
            process.stdout.readline()
        time.sleep(float(random.uniform(0, 0.2)))  # between steps, or while it writes
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert kills == 2
    assert_equal_runs(uninterrupted, train_on(tmp_path / "run"))


@pytest.mark.slow
def test_a_run_that_is_stopped_continued_and_ended_resumes_exactly(
    uninterrupted, tmp_path
):
    process = in_a_process(tmp_path / "run", seconds=0.05)
    for signals in ((signal.SIGSTOP, signal.SIGCONT), (signal.SIGTERM,)):
        for _ in range(3):
            process.stdout.readline()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.3)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert_equal_runs(uninterrupted, train_on(tmp_path / "run"))


KILLS = int(os.environ.get("KILLS", 40))


def kill_trainings(directory, kills):
    """Trains runs, each by processes of which the last ends and the others are killed.

    A second process starts while the first trains, and finds the run held, or free
    because the first was killed. Half of the kills hit a file being written. The
    processes are forks of this one, which has only imported everything.
    """
    random, done, hits, number = np.random.default_rng(kills), 0, 0, 0
    while done < kills:
        path = directory / f"run{number}"
        number += 1
        while done < kills and not (path / "result.json").is_file():
            children = [fork_training(path)]
            time.sleep(float(random.uniform(0, 1)))
            children.append(fork_training(path))
            at_a_write = random.random() < 0.5
            seconds = 60 if at_a_write else float(random.uniform(0, 12))
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and alive(children):
                time.sleep(0.0005)
                if at_a_write and list(path.glob(".partial-*.keras")):
                    break
            for child in alive(children):
                hits += bool(list(path.glob(".partial-*.keras")))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                done += 1
    print(f"{done} kills, {hits} at a write, {number} runs", flush=True)


def alive(children):
    """Those that have not ended; forgets the others."""
    for child in list(children):
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            children.remove(child)
    return children[:]


def fork_training(path):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            train_on(path, seconds=0.05)
        except (RuntimeError, FileExistsError):
            os._exit(3)  # another process trains it, or has finished it
        finally:
            os._exit(0)
    return child


@pytest.mark.slow
def test_runs_that_are_killed_again_and_again_resume_exactly(uninterrupted, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import warnings; warnings.simplefilter('ignore')\n"  # of forks
        "import test_runs, pathlib\n"
        f"test_runs.kill_trainings(pathlib.Path({str(tmp_path)!r}), {KILLS})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    print(done.stdout.splitlines()[-1])
    for path in sorted(tmp_path.iterdir()):
        if not (path / "result.json").is_file():
            train_on(path)
        assert_equal_runs(uninterrupted, training.RunDirectory(path))
        assert not list(path.glob(".partial-*"))


@pytest.mark.slow
def test_a_full_disk_costs_no_checkpoint(uninterrupted, tmp_path):
    """A limit on the file size makes writing fail as on a full disk."""
    with pytest.raises(KeyboardInterrupt):
        train_on(tmp_path / "run", stop_in=7)
    size = (tmp_path / "run/latest.keras").stat().st_size
    before = (tmp_path / "run/latest.keras").read_bytes()
    process = in_a_process(tmp_path / "run", file_size=size // 2)
    _, error = process.communicate()
    assert process.returncode != 0
    assert "could not be written" in error
    assert "continue with --resume" in error
    assert (tmp_path / "run/latest.keras").read_bytes() == before
    assert not list((tmp_path / "run").glob(".partial-*"))
    assert_equal_runs(uninterrupted, train_on(tmp_path / "run"))


def test_too_small_a_disk_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})()
    )
    with pytest.raises(OSError, match="needs about"):
        train_on(tmp_path / "run")
    assert not (tmp_path / "run/history.csv").exists()


def test_a_model_that_is_not_a_checkpoint_is_refused(tmp_path):
    small_supervised().save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="is a model but not a checkpoint"):
        training.load_checkpoint(tmp_path / "m.keras")
    (tmp_path / "x.keras").write_text("words")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        training.load_checkpoint(tmp_path / "x.keras")
    with pytest.raises(FileNotFoundError, match="no run in"):
        training.RunDirectory.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
