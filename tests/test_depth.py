"""`serve --early-exit auto`: a growing queue is answered earlier, and says so."""

import contextlib
import csv
import http.client
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import bright_and_dark
from keras import layers

import keras_inception as ki
import keras_inception_cli
from keras_inception.server import Batching
from keras_inception.server.depth import FEW, LEVELS, MANY, Depth, exits_of
from keras_inception.server.servable import Servable

FORMATS = ("saved_model", "onnx", "openvino")


@pytest.fixture(scope="module")
def early():
    keras.utils.set_random_seed(5)
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for index in range(2):
        x = layers.Conv2D(4, 3, strides=2, activation="relu", name=f"conv{index}")(x)
    x = layers.Conv2D(16, 3, activation="relu")(x)
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    heads = [ki.AuxiliaryHead(f"conv{i}", filters=4, units=8) for i in range(2)]
    model = ki.attach_auxiliary(keras.Model(inputs, x), heads)
    model.class_names = ["ant", "bee", "cat"]
    images = bright_and_dark()
    # The more exits are used, the more answers are other than main's.
    labels = model.predict(images, verbose=0)["main"].argmax(-1)
    early = ki.EarlyExit.calibrate(model, (images, labels), max_accuracy_drop=0.1)
    assert early.thresholds
    assert len(early.calibration.curve) > 3
    return early


@pytest.fixture(scope="module")
def exported(early, tmp_path_factory):
    root = tmp_path_factory.mktemp("formats")
    ki.export.export_saved_model(early.model, root / "saved_model", early_exit=early)
    for name in FORMATS[1:]:
        pytest.importorskip("onnx" if name == "onnx" else "openvino")
        ki.export.export_format(early.model, root / name, name, early_exit=early)
    return root


def test_the_level_follows_the_load():
    for load, level in (
        *((0.0, 0), (FEW, 0), (FEW + 0.01, 1)),
        *(((FEW + MANY) / 2, 4), (MANY, 8), (1.0, 8)),
    ):
        assert Depth(lambda load=load: load).level(8) == level
    assert Depth(lambda: 1.0).level(0) == 0


def test_levels_are_points_of_the_curve(early, exported):
    for name in FORMATS:
        found = exits_of(exported / name / "1")
        assert found.shares == early.calibration.chosen.shares
        assert 1 < len(found.thresholds) <= LEVELS
        first = [*early.thresholds.values()]
        np.testing.assert_array_equal(found.thresholds[0], np.float32(first))
        known = {point.multiply_adds: point for point in early.calibration.curve}
        by_row = {
            tuple(
                np.float32(point.thresholds.get(name, np.inf))
                for name in early.thresholds
            ): cost
            for cost, point in known.items()
        }
        costs = [by_row[tuple(row)] for row in found.thresholds]
        assert costs == sorted(costs, reverse=True)
        assert costs[0] == early.calibration.chosen.multiply_adds
    assert exits_of(exported) == ([], {})


@pytest.mark.parametrize("name", FORMATS)
def test_every_level_answers_as_its_thresholds_do(early, exported, name):
    load = [0.0]
    path = exported / name / "1"
    servable = Servable(path, Batching(), 10**6, depth=Depth(lambda: load[0]))
    thresholds = exits_of(path).thresholds
    assert servable.highest_level == len(thresholds)
    pixels = bright_and_dark().astype("uint8")
    images = pixels.astype("float32")
    files = np.array([tf.io.encode_png(image).numpy() for image in pixels], object)
    names = np.array([b"ant", b"bee", b"cat"], object)
    tried = (0, servable.highest_level)
    for level in tried:
        load[0] = FEW + (MANY - FEW) * level / servable.highest_level
        for signature, of_files in (
            ("serving_default", "serving_bytes"),
            ("serving_early_exit", "serving_bytes_early_exit"),
        ):
            used = dict(early.thresholds)
            if level:
                used = dict(zip(used, map(float, thresholds[level - 1]), strict=True))
            elif signature == "serving_default":
                used = {}
            used = {k: t for k, t in used.items() if np.isfinite(t)}
            there = ki.EarlyExit(
                early.model,
                used,
                temperatures={k: early.temperatures.get(k, 1.0) for k in used},
            )
            expected, exits = there.predict(images)
            answer = servable.predict(signature, {"images": images})
            ranked = servable.predict(of_files, {"image_bytes": files})
            assert answer.level == ranked.level == level
            with_exit = {"exit"} if "early" in signature else set()
            assert set(answer) == {"main"} | with_exit
            assert set(ranked) == {"classes", "scores"} | with_exit
            same = np.isclose(answer["main"], expected, atol=1e-4).all(-1)
            assert same.sum() >= len(same) - 1  # but for a tie with a threshold
            best = names[answer["main"].argmax(-1)]
            np.testing.assert_array_equal(ranked["classes"][:, 0], best)
            if with_exit:
                assert (answer["exit"].astype(str) == exits)[same].all()
    rows = len(images)
    assert servable.levels == dict.fromkeys(tried, 4 * rows)
    assert sum(servable.exits_as_exported.values()) == 2 * rows
    expected, exits = early.predict(images)
    shares = {name: np.mean(exits == name) for name in set(exits)}
    counted = servable.exits_as_exported
    for exit_name, share in shares.items():
        assert counted[exit_name] / (2 * rows) == pytest.approx(share, abs=0.1)
    servable.close()


@pytest.mark.parametrize("name", FORMATS)
def test_a_request_may_bring_thresholds(early, exported, name):
    servable = Servable(exported / name / "1", Batching(), 10**6)
    images = bright_and_dark()
    given = np.full((len(images), len(early.thresholds)), -1, "float32")
    given[::2] = np.inf
    at = "serving_early_exit_at"
    answer = servable.predict(at, {"images": images, "thresholds": given})
    first = next(iter(early.thresholds)).encode()
    assert answer["exit"].tolist() == [
        b"main" if index % 2 == 0 else first for index in range(len(images))
    ]
    alone = early.model.predict(images, verbose=0)
    np.testing.assert_allclose(answer["main"][::2], alone["main"][::2], atol=1e-4)
    early_answers = alone[first.decode()][1::2]
    np.testing.assert_allclose(answer["main"][1::2], early_answers, atol=1e-4)
    none = servable.predict(at, {"images": images[:0], "thresholds": given[:0]})
    assert none["main"].shape == (0, 3)
    assert not servable.exits_as_exported
    assert servable.highest_level == 0
    servable.close()


def test_a_queue_is_answered_earlier_than_a_request_alone(
    early, exported, tmp_path, capsys
):
    words = [sys.executable, "-m", "keras_inception_cli", "serve"]
    words += [str(exported / "saved_model"), "--port=0", "--grpc-port=0"]
    words += ["--early-exit=auto", "--max-queue=32"]
    images = bright_and_dark().round(1)
    body = json.dumps({"inputs": np.tile(images, (3, 1, 1, 1)).tolist()})
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if match := re.search(r"people +http://(\S+)/", line):
                    break

            def ask(path, body=None):
                connection = http.client.HTTPConnection(match[1], timeout=60)
                with contextlib.closing(connection):
                    connection.request("POST" if body else "GET", path, body)
                    response = connection.getresponse()
                    return response.status, response.headers, response.read().decode()

            predict = "/v1/models/saved_model:predict"
            status, headers, alone = ask(predict, body)
            assert (status, headers["Early-Exit-Level"]) == (200, None)
            start = threading.Barrier(32)

            def at_once(_):
                start.wait()
                return ask(predict, body)

            with ThreadPoolExecutor(32) as pool:
                answers = list(pool.map(at_once, range(32)))
            assert [a[2] for a in answers if a[0] != 200] == []
            levels = [int(h["Early-Exit-Level"] or 0) for _, h, _ in answers]
            assert max(levels) > 1
            assert any(text != alone for *_, text in answers)
            # and back to normal
            assert ask(predict, body)[2] == alone
            metrics = ask("/metrics")[2]
            level = r'early_exit_level_total\{level="(\d)",.*\} (\d+)\.0'
            counted = {int(k): int(n) for k, n in re.findall(level, metrics)}
            assert counted[0] >= 2 * 69
            assert sum(counted.values()) == 34 * 69
            assert "keras_inception_exit_share_calibrated{" in metrics
            check_predict(match[1], early, tmp_path, capsys)
        finally:
            process.terminate()


def check_predict(host, early, folder, capsys):
    """`predict --url --early-exit` tells which output answered."""
    images = bright_and_dark().astype("uint8")
    for index, image in enumerate(images):
        content = tf.io.encode_png(image).numpy()
        (folder / f"{index:02}.png").write_bytes(content)
    words = ["predict", "--url", f"http://{host}/v1/models/saved_model", str(folder)]
    table = folder / "table.csv"
    assert keras_inception_cli.main([*words, "--early-exit", f"--csv={table}"]) == 0
    _, exits = early.predict(images.astype("float32"))
    with open(table) as file:
        assert [row["exit"] for row in csv.DictReader(file)] == list(exits)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:-1]] == [f"({name})" for name in exits]
    assert keras_inception_cli.main([*words, "--early-exit", "--json"]) == 0
    rows = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["exit"] for row in rows] == list(exits)
    assert keras_inception_cli.main(["predict", "m.keras", "a", "--early-exit"]) == 1
    assert "--early-exit is for --url" in capsys.readouterr().err


def test_without_exits_there_is_nothing_to_answer_earlier(early, tmp_path, capsys):
    ki.export.export_saved_model(early.model, tmp_path / "plain")
    words = ["serve", str(tmp_path / "plain"), "--port=0", "--grpc-port=0"]
    assert keras_inception_cli.main([*words, "--early-exit", "auto"]) == 1
    assert "has exits to answer at. Export" in capsys.readouterr().err
