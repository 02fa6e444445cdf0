"""Training on several devices or workers equals training on one device."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import train_together
from conftest import colorful_folders, logged, small_pictures

from keras_inception import training
from keras_inception.training import multi_worker

SCRIPT = Path(__file__).with_name("train_together.py")


class OneDevice:
    """In place of a strategy: this process."""

    from contextlib import nullcontext as scope


@pytest.fixture(scope="module")
def alone():
    images, labels = small_pictures(40)
    return train_together.train(
        OneDevice, {"x": images, "y": labels, "batch_size": train_together.BATCH}
    )


def free_addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def run_together(backend, *workers, **environment):
    """Runs the script in parallel workers and returns what each prints.

    Args:
        backend: The Keras backend.
        *workers: Arguments and environment of each worker.
        **environment: Environment of all workers.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, *words],
            env=os.environ | {"KERAS_BACKEND": backend} | environment | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words, own in workers
    ]
    try:
        outputs = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, error[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def assert_equal_figures(found, expected):
    assert found["after"] == pytest.approx(expected["after"], rel=1e-4)
    assert found["history"].keys() == expected["history"].keys()
    for name, values in expected["history"].items():
        assert found["history"][name] == pytest.approx(values, rel=1e-4), name


def test_two_devices_of_a_machine_learn_as_one(alone):
    assert alone["after"]["loss"] < 0.95 * alone["history"]["loss"][0]
    (found,) = run_together("tensorflow", (["mirrored"], {}))
    assert_equal_figures(found, alone)
    # of batch normalization; Keras alone would let them differ between devices
    assert found["statistics"] == {"apart": [0.0, 0.0], "resumed": True}


def test_two_workers_learn_as_one(alone):
    cluster = {"worker": free_addresses(2)}
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    configs = [json.dumps({"cluster": cluster, "task": task}) for task in tasks]
    workers = [(["workers"], {"TF_CONFIG": config}) for config in configs]
    for found in run_together("tensorflow", *workers):
        assert_equal_figures(found, alone)


@pytest.mark.slow
def test_two_devices_learn_as_one_on_jax(alone):
    pytest.importorskip("jax")
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    (found,) = run_together("jax", (["mirrored"], two))
    assert_equal_figures(found, alone)


@pytest.mark.slow
def test_two_workers_learn_as_one_on_jax(alone):
    pytest.importorskip("jax")
    (address,) = free_addresses(1)
    workers = [(["workers", address, str(index)], {}) for index in range(2)]
    for found in run_together("jax", *workers):
        assert_equal_figures(found, alone)


COMMAND = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, halves)
import keras_inception_cli
sys.exit(keras_inception_cli.main(sys.argv[1:]))
"""


@contextlib.contextmanager
def commands(*words, workers=1):
    """Runs `train` on one machine with two devices, or on several workers."""
    script = (
        [sys.executable, "-c", COMMAND]
        if workers == 1
        else [sys.executable, "-m", "keras_inception_cli"]
    )
    cluster = {"worker": free_addresses(workers)}
    processes = []
    for index in range(workers):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = {"TF_CONFIG": json.dumps(config)} if workers > 1 else {}
        processes.append(
            subprocess.Popen(
                [*script, "train", *map(str, words)],
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def output_of(*words, workers):
    """Returns what the chief prints."""
    with commands(*words, workers=workers) as processes:
        outputs = [process.communicate(timeout=400) for process in processes]
        for process, (_, error) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, error[-3000:]
    return outputs[0][0]


def weights_and_history(run):
    latest = keras.saving.load_model(run / "latest.keras")
    return latest.get_weights(), (run / "history.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_trains_on_both_and_resumes_exactly(workers, tmp_path):
    """Two devices of one machine, and two workers; 42 pictures in batches of 8."""
    colorful_folders(tmp_path / "data")
    words = [tmp_path / "data", "--width", 0.0625, "--batch-size", 8, "--epochs", 4]
    words += ["--devices", 2] if workers == 1 else []
    words += ["--gradients", "--runs", tmp_path]
    whole = output_of(*words, "--name", "whole", workers=workers)
    assert "on 2 devices" in whole
    with commands(*words, "--name", "killed", workers=workers) as processes:
        chief, last = processes[0], processes[-1]
        while not next(chief.stdout).strip().startswith("2/4"):
            pass
        last.kill()
        if workers > 1:
            _, error = chief.communicate(timeout=120)
            assert chief.returncode == 1
            # the last line, after TensorFlow's own messages
            assert (
                "error: Another of the 2 workers has stopped" in error.splitlines()[-1]
            )
    assert not (tmp_path / "killed/result.json").exists()
    words = ["--name", "killed", "--resume", "--runs", tmp_path]
    words += ["--devices", 2] if workers == 1 else []
    assert "resuming after epoch" in output_of(*words, workers=workers)
    expected, found = (weights_and_history(tmp_path / n) for n in ("whole", "killed"))
    assert found[1] == expected[1]
    for one, other in zip(expected[0], found[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert logged(tmp_path / "whole/tensorboard") == logged(
        tmp_path / "killed/tensorboard"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"data", "whole", "killed"}


def test_the_patch_belongs_to_a_version_of_keras(monkeypatch):
    monkeypatch.setattr(multi_worker.keras, "__version__", "3.99.0")
    with pytest.raises(RuntimeError, match=r"tested with Keras 3\.15\.1; this is 3"):
        training.multi_worker_strategy()
    # a new version in constraints.txt must be tested with the patch
    monkeypatch.undo()
    assert multi_worker.keras.__version__ in multi_worker.TESTED_VERSIONS


def test_no_device_is_left_without_pictures():
    """TensorFlow cuts a batch into equal pieces, rounded up, until none is left."""
    for replicas, batch_size in ((2, 2), (2, 8), (3, 9), (4, 32), (8, 64)):
        for examples in range(replicas * replicas, 300):
            if batch_size < replicas * replicas and examples % replicas:
                continue
            sizes = training.devices.shareable_batches(examples, batch_size, replicas)
            assert sum(sizes) == examples
            for size in sizes:
                assert size <= batch_size
                assert (replicas - 1) * -(-size // replicas) < size
    with pytest.raises(ValueError, match="30 cannot be divided evenly among 4 devices"):
        training.devices.shareable_batches(100, 30, 4)
    with pytest.raises(ValueError, match="use --batch-size 64 or more, or fewer dev"):
        training.devices.shareable_batches(97, 8, 8)


def test_missing_devices_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="Requested 64 devices; only 1 available"):
        training.Devices(64)
    assert training.Devices("all").replicas == 1
    monkeypatch.setenv("TF_CONFIG", '{"cluster": ["host0:2222"]}')
    with pytest.raises(ValueError, match="TF_CONFIG must be JSON like"):
        training.Devices()
    two = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "%s", "index": 1}}'
    monkeypatch.setenv("TF_CONFIG", two % "worker")
    with pytest.raises(ValueError, match="leave out the number"):
        training.Devices(2)
    monkeypatch.setenv("TF_CONFIG", two % "chief")
    with pytest.raises(ValueError, match="must name only workers"):
        training.Devices()
