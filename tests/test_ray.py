"""examples/score_with_ray.py, with a worker that is killed.

Needs the extra `ray`: `pip install '.[ray]'`.
"""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pages import ROOT
from PIL import Image

import keras_inception as ki

PICTURES, DAMAGED = 3000, (17, 1500)


def workers(group):
    """The process numbers of Ray's workers of one session that have a model."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                b"ray::MapWorker" in (process / "cmdline").read_bytes()
                and f"SCORING_TEST={group}\0".encode()
                in (process / "environ").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.slow  # minutes
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_killed_worker_loses_no_picture_and_answers_none_twice(tmp_path):
    pytest.importorskip("ray", reason="pip install '.[ray]'")
    model = ki.GoogLeNet(
        (32, 32, 3), 3, architecture=ki.GOOGLENET_SMALL, width=0.125, auxiliary=()
    )
    names = ["one", "two", "three"]
    ki.export.export_saved_model(model, tmp_path / "model", class_names=names)
    folder = tmp_path / "pictures/deep"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(PICTURES):
        pixels = random.integers(0, 256, (32, 32, 3), dtype="uint8")
        Image.fromarray(pixels).save(path := folder / f"{index}.png")
        if index in DAMAGED:
            path.write_bytes(path.read_bytes()[:60])
    group = str(os.getpid())
    scoring = subprocess.Popen(
        [
            *(sys.executable, ROOT / "examples/score_with_ray.py"),
            *(tmp_path / "model", tmp_path / "pictures", tmp_path / "answers"),
            *("--workers", "2", "--batch-size", "8", "--top", "2"),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCORING_TEST": group},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen = []
    while len(seen) < 2 and scoring.poll() is None:
        time.sleep(0.05)
        seen = workers(group)
    time.sleep(12)  # TensorFlow is imported by then
    assert scoring.poll() is None, "it ended before a worker could be killed"
    os.kill(seen[0], signal.SIGKILL)
    printed, _ = scoring.communicate(timeout=300)
    assert scoring.returncode == 0, printed
    rows = []
    for file in (tmp_path / "answers").glob("*.csv"):
        with file.open(newline="") as lines:
            rows += csv.DictReader(lines)
    counts = Counter(Path(row["path"]).name for row in rows)
    assert counts == {f"{index}.png": 1 for index in range(PICTURES)}
    faults = {Path(row["path"]).name for row in rows if row["fault"]}
    assert faults == {f"{index}.png" for index in DAMAGED}
    classify = ki.export.load_classifier(tmp_path / "model")
    for row in rows[:20]:
        if not row["fault"]:
            (first, score), _ = classify.rank([Path(row["path"]).read_bytes()], 2)[0]
            assert row["class_1"] == first
            assert abs(float(row["score_1"]) - score) < 1e-5
