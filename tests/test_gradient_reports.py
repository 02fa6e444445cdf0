"""Gradient flow while training, with and without heads, and the reports on it."""

import copy
import csv

import keras
import numpy as np
import pytest
from conftest import logged, small_pictures, small_supervised

import keras_inception as ki
from keras_inception import gradients
from keras_inception.gradients import GradientRow

GROUPS = ("norm", "relative_norm", "zero_fraction", "cosine_to_main")


def fit(model, seen, **arguments):
    pictures = small_pictures()
    return model.fit(*pictures, callbacks=[seen], verbose=0, **arguments)


def test_tags_are_a_run_for_each_loss_and_a_chart_for_each_stage(tmp_path):
    seen = ki.GradientFlow(*small_pictures(4), tmp_path)
    fit(small_supervised(), seen, epochs=2)
    runs = logged(tmp_path)
    reached = {
        "main": ["first", "second", "main"],
        "aux": ["first", "aux"],
        "total": ["first", "second", "main", "aux"],
    }
    assert set(runs) == {f"gradients/{loss}" for loss in reached}
    for loss, stages in reached.items():
        tags = {f"gradient_{group}/{stage}" for group in GROUPS for stage in stages}
        if loss != "main":
            tags -= {"gradient_cosine_to_main/aux"}
        assert set(runs[f"gradients/{loss}"]) == tags
        for steps in runs[f"gradients/{loss}"].values():
            assert steps == [0, 1, 2]  # before the first epoch, and after each


def test_every_so_many_epochs_or_steps_and_histograms(tmp_path):
    pictures = small_pictures(4)
    seen = ki.GradientFlow(*pictures, tmp_path / "a", every_epochs=2, histograms=True)
    fit(small_supervised(), seen, epochs=4)
    main = logged(tmp_path / "a")["gradients/main"]
    assert main["gradient_norm/first"] == [0, 2, 4]
    assert main["gradient/first"] == [0, 2, 4]
    assert "gradient/aux" not in main
    seen = ki.GradientFlow(*pictures, tmp_path / "b", every_steps=3)
    fit(small_supervised(), seen, epochs=2, batch_size=3)  # 8 steps
    assert logged(tmp_path / "b")["gradients/aux"]["gradient_norm/first"] == [0, 3, 6]
    with pytest.raises(
        ValueError, match=r"every_steps must be at least 1\. Received: 0"
    ):
        ki.GradientFlow(*pictures, tmp_path, every_steps=0)


def test_what_is_logged_is_the_present_models(tmp_path):
    model = small_supervised()
    pictures = small_pictures(4)
    seen = ki.GradientFlow(*pictures, tmp_path)
    fit(model, copy.deepcopy(seen))  # as tuners do
    fit(model, seen, epochs=2)
    for row, other in zip(seen.rows, ki.gradient_flow(model, *pictures), strict=True):
        assert row[:2] == other[:2]
        assert row.norm == pytest.approx(other.norm, rel=1e-4)


def test_histograms_hold_every_entry_of_the_gradient():
    model = small_supervised()
    pictures = small_pictures(4)
    found = gradients.Probe(model).gradients(*pictures)
    rows = {(r.stage, r.loss): r for r in ki.gradient_flow(model, *pictures)}
    assert set(found) == {
        place for place, row in rows.items() if row.norm > 0 and place[1] != "total"
    }
    for place, entries in found.items():
        assert np.linalg.norm(entries) == pytest.approx(rows[place].norm, rel=1e-5)
    count = sum(np.prod(w.shape) for w in gradients.weights_by_stage(model)["first"])
    assert found["first", "main"].shape == (count,)


def row(stage, loss, norm, cosine=None):
    return GradientRow(stage, loss, norm, norm, 0.0 if norm else 1.0, cosine)


# the sums by hand: total = main + 0.3 aux where both point the same way
VANISHED = [
    row("conv1", "main", 1e-6, 1.0),
    row("conv1", "aux_1", 0.1, 1.0),
    row("conv1", "total", 0.030001, 1.0),
    row("conv2", "main", 0.2, 1.0),
    row("conv2", "aux_1", 0.0),
    row("conv2", "total", 0.2, 1.0),
    row("main", "main", 1.0, 1.0),
    row("main", "aux_1", 0.0),
    row("main", "total", 1.0, 1.0),
    row("aux_1", "main", 0.0),
    row("aux_1", "aux_1", 1.0),
    row("aux_1", "total", 0.3),
]


def test_the_share_of_the_heads():
    shares = gradients.share_of_heads(VANISHED)
    assert list(shares) == ["conv1", "conv2"]
    assert shares["conv1"] == pytest.approx(0.03 / 0.030001)
    assert shares["conv2"] == 0
    # and on a real model: what main leaves over, by the gradients themselves
    model = small_supervised(loss_weights=0.5)
    pictures = small_pictures(6)
    entries = gradients.Probe(model).gradients(*pictures)
    main, aux = entries["first", "main"], 0.5 * entries["first", "aux"]
    total = main + aux
    expected = aux @ total / (total @ total)
    found = gradients.share_of_heads(ki.gradient_flow(model, *pictures))
    assert found["first"] == pytest.approx(expected, abs=1e-5)


def test_the_words_say_what_the_rows_show():
    shrunk, brought, direction = gradients.explain(VANISHED)
    assert "shrinks on its way back: 0.2 at conv2" in shrunk
    assert "1e-06 at conv1, 200,000 times less" in shrunk
    assert "Of the gradient that trains conv1, 100 % comes from the heads" in brought
    assert "From conv2 on only the main loss counts" in brought
    assert "aux_1 pulls the same way as the main loss" in direction
    against = [
        r._replace(cosine_to_main=-0.4) if r.loss == "aux_1" else r for r in VANISHED
    ]
    assert "pulls against the main loss" in gradients.explain(against)[2]
    even = [r._replace(norm=0.1) if r[:2] == ("conv1", "main") else r for r in VANISHED]
    assert "has not vanished" in gradients.explain(even)[0]
    plain = [r for r in VANISHED if "aux_1" not in r[:2]]
    assert "has no auxiliary heads" in gradients.explain(plain)[1]
    silent = [r._replace(norm=0.0) if r.loss == "main" else r for r in VANISHED]
    assert "reaches no stage of the trunk" in gradients.explain(silent)[0]


def test_with_and_without_heads_begin_alike_and_leave_the_model_alone(tmp_path):
    model = small_supervised(loss_weights=0.3)
    before = model.get_weights()
    images, labels = small_pictures()
    batches = [(images[:6], labels[:6]), (images[6:], labels[6:])]
    steps = []
    curves = gradients.compare_without_heads(
        model, batches, images, labels, steps=5, on_step=steps.append
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert steps == [1, 2, 3, 4, 5]
    with_heads, without = curves["with heads"], curves["without heads"]
    assert len(with_heads.main_losses) == len(without.main_losses) == 5
    # on the first batch both still have the same weights
    assert with_heads.main_losses[0] == pytest.approx(without.main_losses[0], rel=1e-5)
    at_first = {
        name: {(r.stage, r.loss): r.norm for r in curve.before}
        for name, curve in curves.items()
    }
    for stage in ("first", "second", "main"):
        one, other = (norms[stage, "main"] for norms in at_first.values())
        assert one == pytest.approx(other, rel=1e-5)
    assert {row.loss for row in without.before} == {"main", "total"}
    assert with_heads.after != with_heads.before
    with pytest.raises(ValueError, match="needs a model with auxiliary heads"):
        gradients.compare_without_heads(
            ki.detach_auxiliary(model), batches, images, labels, steps=1
        )


def test_the_papers_initialisation_makes_the_gradient_vanish_and_todays_does_not():
    images, labels = (
        np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)),
        [0, 1, 2, 0],
    )
    model = ki.GoogLeNet(
        (32, 32, 3), 3, auxiliary=(), architecture=ki.GOOGLENET_SMALL, width=0.125
    )
    norms = {}
    for init in gradients.comparison.INITIALIZERS:
        new = gradients.reinitialized(model, init)
        rows = ki.gradient_flow(new, images, np.array(labels))
        norms[init] = {r.stage: r.norm for r in rows if r.loss == "main"}
        if init == "gaussian":
            kernels = [w for w in new.trainable_weights if w.name == "kernel"]
            # Krizhevsky et al. 2012, section 5
            assert np.std(kernels[5]) == pytest.approx(0.01, rel=0.2)
        elif init == "xavier":
            kernel = new.get_layer("inception_3a_3x3").kernel
            deviation = (9 * kernel.shape[2]) ** -0.5
            assert np.std(kernel) == pytest.approx(deviation, rel=0.05)
            assert np.max(np.abs(kernel)) <= 3**0.5 * deviation
    ratio = {init: n["conv1_3x3"] / n["inception_5b"] for init, n in norms.items()}
    assert ratio["gaussian"] < 1e-6 < ratio["xavier"] < ratio["he"]
    assert ratio["he"] > 1e-2
    with pytest.raises(ValueError, match="Received: 'orthogonal'"):
        gradients.reinitialized(model, "orthogonal")


def test_the_report_holds_everything_in_one_file(tmp_path):
    model = small_supervised()
    images, labels = small_pictures()
    curves = gradients.compare_without_heads(
        model, [(images, labels)], images, labels, steps=3
    )
    rows = ki.gradient_flow(model, images, labels)
    files = gradients.write_report(
        tmp_path / "out", rows, model="a <model>", data="pictures", comparison=curves
    )
    assert [file.name for file in files] == [
        "gradients.csv",
        "gradients.png",
        "comparison.csv",
        "losses.csv",
        "comparison.png",
        "report.html",
    ]
    with files[0].open() as file:
        read = list(csv.DictReader(file))
    assert [GradientRow(**r).stage for r in read] == [row.stage for row in rows]
    assert float(read[0]["norm"]) == rows[0].norm
    with files[2].open() as file:
        networks = {(r["network"], r["moment"]) for r in csv.DictReader(file)}
    assert len(networks) == 4
    page = files[-1].read_text()
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page
    assert "href" not in page
    assert "a &lt;model&gt;" in page
    for finding in gradients.explain(rows):
        assert finding.split(":")[0] in page
    for name in ("gradients.png", "comparison.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_the_table_for_a_terminal():
    columns, lines = gradients.flow_table(VANISHED)
    assert columns == ["stage", "main", "aux_1", "total", "cos aux_1", "from heads"]
    assert lines[0] == ["conv1", "1e-06", "0.1", "0.03", "+1.00", "100 %"]
    assert lines[1] == ["conv2", "0.2", "-", "0.2", "-", "0 %"]


def test_a_network_of_keras_applications_with_a_head_or_without(tmp_path):
    plain = keras.applications.MobileNetV3Small((64, 64, 3), weights=None, classes=3)
    pictures = (
        np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)),
        np.array([0, 1]),
    )
    rows = ki.gradient_flow(plain, *pictures)
    files = gradients.write_report(tmp_path / "a", rows, model="plain", data="noise")
    assert "has no auxiliary heads" in files[-1].read_text()
    headed = ki.attach_auxiliary(plain, 1)
    (head,) = headed.heads
    rows = ki.gradient_flow(headed, *pictures)
    shares = gradients.share_of_heads(rows)
    assert any(shares.values())
    files = gradients.write_report(tmp_path / "b", rows, model="headed", data="noise")
    assert f"{head} pulls" in files[-1].read_text()
