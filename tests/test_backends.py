"""Runs `backend_checks.py` on every backend, in a process for each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).parent / "backend_checks.py"


# TensorFlow runs all other tests, so its checks can wait.
TENSORFLOW = pytest.param("tensorflow", marks=pytest.mark.slow)


@pytest.mark.parametrize("backend", [TENSORFLOW, "jax", "torch"])
def test_the_core_runs_on(backend, tmp_path):
    if backend != "tensorflow":
        pytest.importorskip(backend)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST_")  # of this run and its workers
    } | {
        "KERAS_BACKEND": backend,
        # XLA would spend a minute on optimizing the few steps.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    options = ["--quiet", "--tb=short", "-p", "no:cacheprovider"]
    options += ["--basetemp", str(tmp_path / "checks")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(CHECKS), *options],
        cwd=CHECKS.parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
