"""Several devices and several workers learn what one learns from the same batches."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import train_together
from conftest import small_pictures

from keras_inception import training
from keras_inception.training import multi_worker

SCRIPT = Path(__file__).with_name("train_together.py")


class OneDevice:
    """Stands for a strategy, in this process."""

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


def train_together(backend, *workers, **environment):
    """What the script prints, run by as many workers side by side.

    Args:
        backend: Keras's.
        *workers: For each its words and its own environment.
        **environment: That of all.
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
    (found,) = train_together("tensorflow", (["mirrored"], {}))
    assert_equal_figures(found, alone)


def test_two_workers_learn_as_one(alone):
    cluster = {"worker": free_addresses(2)}
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    configs = [json.dumps({"cluster": cluster, "task": task}) for task in tasks]
    workers = [(["workers"], {"TF_CONFIG": config}) for config in configs]
    for found in train_together("tensorflow", *workers):
        assert_equal_figures(found, alone)


@pytest.mark.slow
def test_two_devices_learn_as_one_on_jax(alone):
    pytest.importorskip("jax")
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    (found,) = train_together("jax", (["mirrored"], two))
    assert_equal_figures(found, alone)


@pytest.mark.slow
def test_two_workers_learn_as_one_on_jax(alone):
    pytest.importorskip("jax")
    (address,) = free_addresses(1)
    workers = [(["workers", address, str(index)], {}) for index in range(2)]
    for found in train_together("jax", *workers):
        assert_equal_figures(found, alone)


def test_what_is_mended_belongs_to_a_version_of_keras(monkeypatch):
    monkeypatch.setattr(multi_worker.keras, "__version__", "3.99.0")
    with pytest.raises(RuntimeError, match=r"is a part of Keras 3\.15\.1; this is 3"):
        training.multi_worker_strategy()
    # a new version of Keras among the constraints must be looked at
    monkeypatch.undo()
    assert multi_worker.keras.__version__ in multi_worker.SEEN_WITH


def test_devices_that_are_not_there_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="There are not 64 devices to train on, but 1"):
        training.Devices(64)
    assert training.Devices("all").replicas == 1
    monkeypatch.setenv("TF_CONFIG", '{"cluster": ["host0:2222"]}')
    with pytest.raises(ValueError, match="TF_CONFIG must be JSON like"):
        training.Devices()
    two = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "%s", "index": 1}}'
    monkeypatch.setenv("TF_CONFIG", two % "worker")
    with pytest.raises(ValueError, match="a number of them can't be chosen"):
        training.Devices(2)
    monkeypatch.setenv("TF_CONFIG", two % "chief")
    with pytest.raises(ValueError, match="every task is a worker"):
        training.Devices()
