"""The paired studies: what is paired, what is resumed, and what the report claims."""

import doctest
import itertools
import json

import numpy as np
import pytest

from benchmarks import paired_statistics
from benchmarks import paired_studies as studies
from benchmarks.paired_pictures import Epochs
from benchmarks.paired_report import report
from benchmarks.paired_statistics import (
    NOT_SHOWN,
    hold_together,
    paired_difference,
    rank_correlation,
    verdict,
)
from benchmarks.paired_training import Arm, Regime, build, trunk_checksum
from benchmarks.tables import read, write


def test_paired_differences_are_students():
    ours, theirs = {0: 2.0, 1: 4.0, 2: 6.0, 7: 9.0}, {0: 1.0, 1: 2.0, 2: 3.0}
    found = paired_difference(ours, theirs)
    # mean 2, deviation 1, error 1 / sqrt(3); t(2) = 4.3027 at 97.5 %
    assert found[:4] == pytest.approx(
        (3, 2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), rel=1e-4
    )
    assert verdict(found) == NOT_SHOWN
    assert verdict(paired_difference({0: 2.0}, theirs)) == "too few seeds"
    assert paired_difference({5: 1.0}, theirs).pairs == 0
    assert verdict(paired_difference({0: 1.1, 1: 2.1}, theirs)) == "more"
    assert verdict(paired_difference(theirs, theirs)) == NOT_SHOWN


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    pairs = [
        paired_difference(dict(enumerate(a)), dict(enumerate(b)))
        for a, b in zip(
            random.normal(1, 2, (2000, 5)), random.normal(0, 2, (2000, 5)), strict=True
        )
    ]
    inside = np.mean([found.low <= 1 <= found.high for found in pairs])
    assert inside == pytest.approx(0.95, abs=0.015)


def test_several_differences_at_once():
    assert hold_together([0.04, 0.001, np.nan, 0.02]) == [True, True, False, True]
    assert hold_together([0.03, 0.03]) == [False, False]


def test_rank_correlations():
    x = list(range(10))
    found = rank_correlation(x, [value**3 for value in x])
    assert found.rho == pytest.approx(1)
    assert found.verdict == "the more, the more it helps"
    assert rank_correlation(x, x[::-1]).verdict == "the more, the less it helps"
    mixed = rank_correlation(x, [3, 9, 1, 5, 0, 8, 2, 7, 4, 6])
    assert mixed.verdict == "no correlation shown"
    assert rank_correlation(x, x, independent=4).verdict == "too few settings"
    assert rank_correlation(x, [1.0] * 10).verdict == "too few settings"


def test_examples_in_docstrings():
    flags = doctest.ELLIPSIS
    assert not doctest.testmod(paired_statistics, optionflags=flags).failed


def test_trainings_of_a_seed_are_paired():
    superclasses = ["a", "a", "b"]
    for init, batch_norm in (("xavier", False), ("he", True)):
        regime = Regime(init, batch_norm, 0.1, 1)
        plain, both, single = (
            build(regime, arm, superclasses, 3)
            for arm in (
                studies.ARMS["no heads"],
                Arm(studies.PAPER),
                Arm(("inception_4d",)),
            )
        )
        assert trunk_checksum(plain) == trunk_checksum(both) == trunk_checksum(single)
        assert trunk_checksum(build(regime, Arm(), superclasses, 4)) != trunk_checksum(
            plain
        )
        for layer in plain.layers:
            others = both.get_layer(layer.name).weights
            for one, other in zip(layer.weights, others, strict=True):
                np.testing.assert_array_equal(one, other)
        kernels = [model.get_layer("aux_4d_fc").kernel for model in (both, single)]
        np.testing.assert_array_equal(*kernels)


def test_order_shifts_and_mirroring_are_those_of_seed_and_epoch():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (70, 16, 16, 3)).astype("uint8")
    labels = np.arange(70)
    first, second, other = (Epochs(images, labels, seed) for seed in (0, 0, 1))
    for _ in range(2):
        assert len(first) == 2
        seen = [labels for _, labels in map(first.__getitem__, range(2))]
        assert len({*np.concatenate(seen)}) == 64
        for one, same in zip(first[1], second[1], strict=True):
            np.testing.assert_array_equal(one, same)
        assert (first[1][1] != other[1][1]).any()
        first.on_epoch_end(), second.on_epoch_end()
        assert (first[1][1] != seen[1]).any()
    # each picture is a window of the padded one, or its mirror image
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], "edge")
    for picture, label in zip(*first[0], strict=True):
        windows = [
            padded[label, top : top + 16, left : left + 16, :]
            for top, left in itertools.product(range(5), range(5))
        ]
        assert any(
            (picture == view).all()
            for window in windows
            for view in (window, window[:, ::-1])
        )


def synthetic(out, seeds=5):
    """Tables of trainings in which the paper's heads bring exactly 2 points more."""
    random = np.random.default_rng(0)
    rows, probes, gradients, attribution = [], [], [], []
    for seed, regime in itertools.product(range(seeds), studies.REGIMES):
        luck = random.normal(0, 0.05)
        for arm, more in (("no heads", 0), ("paper", 0.02), ("4a", 0.0), ("4d", 0.0)):
            job = {"dataset": "d", "regime": regime, "arm": arm, "seed": seed}
            accuracy = 0.4 + luck + more + random.normal(0, 0.003)
            row = job | {"order": 1, "trunk": seed, "main_accuracy": accuracy}
            row["main_curve"] = json.dumps([0.1, accuracy])
            rows.append(row)
            if arm in ("4a", "4d"):
                for loss, norm in (("main", 1), (f"aux_{arm}", 2), ("total", 3)):
                    about = {"moment": "start", "stage": "conv1_3x3", "loss": loss}
                    gradients.append(job | about | {"norm": norm})
                for loss, share in (("main", 0.75), (f"aux_{arm}", 0.25)):
                    about = {"stage": "conv1_3x3", "loss": loss, "share": share}
                    attribution.append(job | about | {"path_share": 0.5})
            if arm == "paper":
                for stage, loss, share in (
                    *(("conv1_3x3", "aux_4a", 0.3), ("conv1_3x3", "aux_4d", 0.2)),
                    ("inception_4d", "aux_4d", 0.1),
                ):
                    about = {"stage": stage, "loss": loss, "share": share}
                    attribution.append(job | about | {"path_share": 0.5})
            if arm == "no heads":
                for endpoint in ("inception_4a", "inception_4d"):
                    probes.append(job | {"endpoint": endpoint, "accuracy": 0.3})
    for name, table in (
        ("trainings", rows),
        ("gradients", gradients),
        ("attribution", attribution),
        ("probes", probes),
    ):
        write(out / f"{name}.csv", table)


def test_the_report_shows_a_known_difference_and_no_other(tmp_path, capsys):
    synthetic(tmp_path)
    report(tmp_path)
    rows = read(tmp_path / "differences.csv")
    by_arm = {}
    for row in rows:
        by_arm.setdefault((row["arm"], row["against"]), []).append(row)
    for row in by_arm["paper", "no heads"]:
        assert row["claim"] == "more"
        assert float(row["low"]) < 2 < float(row["high"])
        assert row["pairs"] == "5"
    assert [row["claim"] for row in by_arm["4a", "paper"]] == ["less"] * 3
    assert NOT_SHOWN in {row["claim"] for row in by_arm["4a", "no heads"]}
    printed = capsys.readouterr().out
    assert "25 (25 to 25)" in printed
    shares = read(tmp_path / "attribution_summary.csv")
    before = {(r["arm"], r["loss"]): r["% of the trunk before it"] for r in shares}
    assert before["paper", "aux_4d"] == "15 (15 to 15)"
    assert before["paper", "together"] == "50 (50 to 50)"  # of what both reach
    for row in read(tmp_path / "predictions.csv"):
        assert row["claim"] in ("too few settings", "no correlation shown")
    for name in ("curves", "differences"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_of_few_rows(tmp_path):
    synthetic(tmp_path, seeds=1)
    for name in ("gradients", "attribution", "probes"):
        (tmp_path / f"{name}.csv").unlink()
    write(tmp_path / "trainings.csv", read(tmp_path / "trainings.csv")[:3])
    report(tmp_path)
    rows = read(tmp_path / "differences.csv")
    assert {row["claim"] for row in rows} == {"too few seeds"}


def test_trainings_that_are_not_paired_are_refused(tmp_path):
    synthetic(tmp_path)
    rows = read(tmp_path / "trainings.csv")
    write(tmp_path / "trainings.csv", [*rows[:-1], rows[-1] | {"trunk": 99}])
    with pytest.raises(SystemExit, match=r"d, batch norm, 4 are not paired"):
        report(tmp_path)


def test_work_is_shared_and_resumed(tmp_path):
    settings = {"per_class": 400, "held_out": 3000}
    todo = studies.jobs(2, ["tinyimagenet20"], ["Xavier"], ["no heads", "4a"])
    assert [(job.arm, job.seed) for job in todo] == [
        ("no heads", 0),
        ("4a", 0),
        ("no heads", 1),
        ("4a", 1),
    ]
    one = studies.claimed(tmp_path, todo, settings)
    two = studies.claimed(tmp_path, todo, settings)
    assert [next(one), next(two)] == todo[:2]
    studies.write_down(tmp_path, todo[0], settings, {"probes": [{"accuracy": 0.1}]})
    # as if a process had been killed between the tables, and had come back
    studies.write_down(tmp_path, todo[1], settings, {"probes": [{"accuracy": 0.2}]})
    studies.write_down(tmp_path, todo[1], settings, {"probes": [{"accuracy": 0.3}]})
    assert [next(two), next(one)] == todo[2:]
    assert [row["accuracy"] for row in read(tmp_path / "probes.csv")] == ["0.1", "0.3"]
    one.close(), two.close()  # their locks go
    assert list(studies.claimed(tmp_path, todo, settings)) == todo[2:]
    with pytest.raises(SystemExit, match="other settings"):
        next(studies.claimed(tmp_path, todo, settings | {"per_class": 9}))
