"""Configuration files, options, batches and runtimes of the server."""

import gc
import os
import re
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import uvicorn
from conftest import small_pictures, small_supervised

import keras_inception as ki
import keras_inception_cli
from keras_inception.export.sessions import open_session
from keras_inception.server import (
    Batching,
    Limits,
    ModelConfig,
    Models,
    batch_queue,
    read_batching,
)
from keras_inception.server.addresses import listen
from keras_inception.server.batch_queue import BatchQueue
from keras_inception.server.connections import Protocol
from keras_inception.server.limits import ServingError
from keras_inception.server.manager import ModelSpec
from keras_inception.server.metrics import Metrics
from keras_inception.server.model_config import read_metrics_path, read_models
from keras_inception.server.runtimes import runtime_of
from keras_inception.server.servable import Servable
from keras_inception.server.workers import Workers

ONE = 'config { name: "a" base_path: "/m/a" model_platform: "tensorflow" %s }'


def written(tmp_path, text):
    path = tmp_path / "file.config"
    path.write_text(text)
    return path


def test_models_of_a_file(tmp_path):
    text = """model_config_list {
        config { name: "a" base_path: "/m/a" model_platform: "tensorflow" }
        config { name: "b" base_path: "/m/b" model_type: TENSORFLOW
          model_version_policy { latest { num_versions: 2 } } }
        config { name: "c" base_path: "/m/c" model_platform: "openvino"
          model_version_policy { all {} } }
        config { name: "d" base_path: "/m/d" model_platform: "tensorflow"
          model_version_policy { specific { versions: 3 versions: 4 } }
          version_labels { key: "can-ary 2" value: 4 } } }"""
    a, b, c, d = read_models(written(tmp_path, text))
    assert a == ModelConfig("a", a.directory, runtime="tensorflow")
    assert str(a.directory) == "/m/a"
    assert (b.latest, b.runtime) == (2, "tensorflow")
    assert (c.every, c.latest, c.runtime) == (True, 0, "openvino")
    assert (d.latest, d.numbers, d.labels) == (0, (3, 4), {"can-ary 2": 4})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no model_config_list"),
        ("custom_model_config {}", "has no model_config_list"),
        ("model_config_list {", "is not a ModelServerConfig in text form: "),
        ("words", "is not a ModelServerConfig in text form: 1:1"),
        ("model_config_list { config { x: 1 } }", 'no field named "x"'),
        (f"model_config_list {{ {ONE % ''} {ONE % ''} }}", "list model a multiple"),
        ('model_config_list { config { name: "a" base_path: "/a" } }', "one of tensor"),
        (
            'model_config_list { config { name: "a" base_path: "m" '
            'model_platform: "tensorflow" } }',
            "to have an absolute path or URI; got base_path()=m",
        ),
        (
            'model_config_list { config { base_path: "/m" '
            'model_platform: "tensorflow" } }',
            "a model has no name",
        ),
    ],
)
def test_files_that_tf_serving_refuses(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_models(written(tmp_path, text))


def test_batching_and_monitoring_files(tmp_path):
    path = written(
        tmp_path,
        "max_batch_size { value: 8 } batch_timeout_micros { value: 0 } "
        'max_enqueued_batches { value: 9 } thread_pool_name { value: "x" } '
        "allowed_batch_sizes: 4 allowed_batch_sizes: 8",
    )
    assert read_batching(path, Batching()) == Batching(8, 0, 2, every=True)
    for text, message in (
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1"),
        ("allowed_batch_sizes: 4", "must increase and end with max_batch_size, 32"),
        ("num_batch_threads: 2", "is not a BatchingParameters in text form"),
    ):
        with pytest.raises(ValueError, match=message):
            read_batching(written(tmp_path, text), Batching())
    for text, found in (
        ("prometheus_config { enable: true path: '/m' }", "/m"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ("prometheus_config { path: '/m' }", None),
        ("", None),
    ):
        assert read_metrics_path(written(tmp_path, text)) == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}", "--port", "99999"], "--port must be from 0 to 65535. Received: 99"),
        (["{tmp}", "--grpc-port", "-1"], "--grpc-port must be from 0 to 65535"),
        (["{tmp}", "--timeout", "inf"], "--timeout must be above 0, and at most 86400"),
        (["{tmp}", "--timeout", "nan"], "--timeout must be above 0, and at most 86400"),
        (["{tmp}", "--batch-wait", "inf"], "--batch-wait must be from 0 to 3600000"),
        (["{tmp}", "--max-pixels", "inf"], "--max-pixels must be above 0, and at most"),
        (["{tmp}", "--max-message", "4096"], "--max-message must be from 1 to 2047"),
        ([], "takes either a DIRECTORY or --model-config-file"),
        (["{tmp}", "--model-config-file", "x"], "takes either a DIRECTORY or --model"),
        (["--model-config-file", "{tmp}/none"], "No such file or directory"),
        (["--model-config-file", "{tmp}/f", "--name", "x"], "--name belongs to a DIR"),
        (["{tmp}/model/1"], "model/1 is a version; serve the directory that holds it"),
        (["{tmp}"], "holds directories of versions. Serve one of model"),
        (["{tmp}/model", "--label", "a=9", "--port", "0"], "is for version 9 of "),
        (["{tmp}/model", "--port", "{taken}"], "port {taken}: Address already in use"),
        (
            ["{tmp}/model", "--port", "0", "--grpc-port", "{taken}"],
            "Can't listen on 127.0.0.1 port {taken}: Address already in use",
        ),
        (["{tmp}/model", "--host", "no.such.host.invalid"], "Can't listen on no.such"),
        (["{tmp}/model", "--ssl-certfile", "x"], "--ssl-keyfile belong together"),
        (
            ["{tmp}/model", "--ssl-certfile", "{tmp}/f", "--ssl-keyfile", "{tmp}/f"],
            "are not a certificate and its key in PEM form",
        ),
        (
            ["{tmp}/model", "--runtime", "onnx"],
            "has no model.onnx for onnx; it has one",
        ),
        (["{tmp}/model", "--batching-parameters-file", "{tmp}/f"], "in text form"),
    ],
)
def test_mistakes_are_one_line(mistaken, capsys, words, message):
    folder, taken = mistaken
    words = [word.format(tmp=folder, taken=taken) for word in words]
    assert keras_inception_cli.main(["serve", *words]) == 1
    error = capsys.readouterr().err
    assert message.format(taken=taken) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "name", [b"a\nb", b"a\x1b[31mb", b"x\xffy", b"-n", b"{}%s %(x)d"]
)
def test_odd_names_are_told_in_one_line(name, tmp_path, capsys):
    """Of directories, models, data and labels, whatever a terminal would make of it."""
    name = os.fsdecode(name)
    odd = tmp_path / name
    (odd / name / "1").mkdir(parents=True)
    words = ["--port", "0", "--grpc-port", "0"]
    for command in (
        ["serve", odd / name, *words],
        ["serve", odd, *words],
        ["serve", odd / "none", *words],
        ["serve", odd, f"--label={name}=x"],
        ["serve", "--model-config-file", odd / name],
        ["gradients", odd / f"{name}.keras", odd / "none"],
        ["calibrate", odd / f"{name}.keras", odd],
        ["calibrate", odd / f"{name}.keras", "digits", "--out", odd / name],
    ):
        assert keras_inception_cli.main(list(map(str, command))) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("keras-inception: error: ")
        assert captured.err.count("\n") == 1
        assert captured.err.rstrip("\n").isprintable()


@pytest.fixture(scope="module")
def mistaken(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistaken")
    (folder / "model").symlink_to(exported / "saved_model")
    (folder / "f").write_text("words")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield folder, taken.getsockname()[1]


def test_a_batch_queue_gathers_and_splits():
    sizes, open_ = [], threading.Event()

    def double(inputs):
        sizes.append(len(inputs["x"]))
        if len(sizes) == 1:
            open_.wait(10)  # while one batch runs, the next one gathers
        if 13 in inputs["x"]:
            raise ValueError("13")
        return {"y": inputs["x"] * 2}

    queue = BatchQueue(double, Batching(rows=8, micros=100_000, threads=1))

    def call(value, rows=1):
        return queue({"x": np.full(rows, value)})["y"].tolist()

    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(call, 0)
        while not sizes:
            pass
        later = [pool.submit(call, n) for n in range(10, 16)]
        other = pool.submit(queue, {"x": np.zeros((1, 2))})  # of another shape
        large = pool.submit(call, 7, rows=9)
        open_.set()
        assert large.result() == [14] * 9  # in two batches
        assert first.result() == [0]
        assert other.result()["y"].shape == (1, 2)
        for value, future in zip(range(10, 16), later, strict=True):
            if value == 13:  # fails alone
                with pytest.raises(ValueError, match="13"):
                    future.result()
            else:
                assert future.result() == [2 * value]
    assert 1 < max(sizes) <= 8


def test_a_lone_client_does_not_wait_for_others(monkeypatch):
    waited = []

    class Event(threading.Event):
        def wait(self, timeout=None):
            if timeout is not None:  # for a batch to fill; other waits have no end
                waited.append(timeout)
            return super().wait(timeout)

    running, go_on = threading.Event(), threading.Event()

    def slow(inputs):
        if inputs["x"][0] == 1:
            running.set()
            go_on.wait()
        return inputs

    monkeypatch.setattr(batch_queue.threading, "Event", Event)
    queue = BatchQueue(slow, Batching(micros=1000, threads=1))
    for _ in range(3):
        queue({"x": np.zeros(1)})
    assert waited == [0.001]  # the first call does not know yet
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(queue, {"x": np.ones(1)})]
        running.wait()
        calls += [pool.submit(queue, {"x": np.zeros(1)}) for _ in range(2)]
        while queue._open is None or queue._open.rows < 2:
            pass
        go_on.set()
        for call in calls:
            call.result()
    assert waited == [0.001]
    queue({"x": np.zeros(1)})  # after a batch of two it waits once more
    queue({"x": np.zeros(1)})
    assert waited == [0.001, 0.001]


def test_the_body_of_an_answer_does_not_wait_for_its_head():
    without_delay = []

    class Recording(Protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            connection = transport.get_extra_info("socket")
            without_delay.append(
                connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            )

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    with listen("127.0.0.1", 0) as listening:
        config = uvicorn.Config(app, http=Recording, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            with urllib.request.urlopen(url) as answer:
                assert answer.read() == b"answer"
        finally:
            server.should_exit = True
            thread.join()
    assert without_delay == [1]


def test_answers_that_are_not_by_row_are_computed_alone():
    queue = BatchQueue(lambda inputs: {"n": np.array(len(inputs["x"]))}, Batching())
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(queue, {"x": np.zeros(2)}) for _ in range(8)]
        assert {call.result()["n"].item() for call in calls} == {2}


@pytest.fixture(scope="module")
def model():
    model = small_supervised()
    model.class_names = ["ant", "bee", "cat"]
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """One model in each of the formats that can be served."""
    root = tmp_path_factory.mktemp("formats")
    ki.export.export_saved_model(model, root / "saved_model")
    for name in ("onnx", "openvino"):
        ki.export.export_format(model, root / name, name)
    return root


def test_exits_are_counted(tmp_path):
    spec = tf.TensorSpec((None, 2), tf.float32, "images")

    @tf.function(input_signature=[spec])
    def answer(images):
        names = tf.where(images[:, 0] > 0.5, "aux", "main")
        return {"main": images, "exit": names}

    signatures = {"serving_default": answer}
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"), signatures=signatures)
    (tmp_path / "1/model_card.md").touch()  # as if exported by this package
    models = Models(
        [ModelConfig("m", tmp_path)],
        lambda path, runtime: Servable(path, Batching(), 1, runtime),
    )
    models.update()
    images = np.array([[1, 0], [0, 1], [1, 0]], "float32")
    with models.servable(ModelSpec("m")) as (_, servable):
        for _ in range(2):
            servable.predict("", {"images": images})
    text = Metrics(models, Workers(Limits())).text().decode()
    for name, count in (("aux", 4), ("main", 2)):
        labels = f'{{exit="{name}",model="m",version="1"}}'
        assert f"keras_inception_exits_total{labels} {count}.0" in text


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_other_runtimes_answer_as_a_saved_model_does(exported, runtime):
    path = exported / runtime / "1"
    assert runtime_of(path) == runtime
    reference = Servable(exported / "saved_model/1", None, 10**6)
    servable = Servable(path, Batching(), 10**6)
    images, _ = small_pictures(12)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 13, 9, 3)).astype("uint8")
    files = np.array([tf.io.encode_png(p).numpy() for p in pictures], object)
    for signature, inputs in (
        ("", {"images": images}),
        ("", {"images": images[:0]}),
        ("serving_bytes", {"image_bytes": files}),
        ("serving_bytes", {"image_bytes": files[:0]}),
    ):
        expected = reference.predict(signature, inputs)
        found = servable.predict(signature, inputs)
        assert set(found) == set(expected)  # protobuf's maps have no order
        for name, array in expected.items():
            assert found[name].dtype == array.dtype
            if array.dtype == object:
                np.testing.assert_array_equal(found[name], array)
            else:
                np.testing.assert_allclose(found[name], array, atol=1e-4)
    definition = servable.definitions["serving_bytes"]
    assert definition.outputs["classes"].dtype == tf.string.as_datatype_enum
    with ThreadPoolExecutor(8) as pool:
        one = [pool.submit(servable.predict, "", {"images": i[None]}) for i in images]
        answers = np.concatenate([future.result()["main"] for future in one])
    expected = reference.predict("", {"images": images})["main"]
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    for inputs, message in (
        ({"images": images[:, :4]}, "images has shape"),
        ({"image_bytes": files}, "Missing but required: {images}"),
    ):
        with pytest.raises(ServingError, match=message):
            servable.predict("", inputs)
    reference.close()
    servable.close()


@pytest.mark.parametrize(
    "kind", ["saved_model", "onnx", pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_an_unloaded_version_returns_its_threads(exported, kind):
    images, _ = small_pictures(12)

    def come_and_go() -> int:
        servable = Servable(exported / kind / "1", Batching(), 10**6)
        with ThreadPoolExecutor(4) as pool:
            asked = [servable.predict] * 8, [""] * 8, [{"images": images}] * 8
            answers = list(pool.map(lambda ask, *words: ask(*words), *asked))
        assert len(answers) == 8
        servable.close()
        del servable
        gc.collect()
        return len(list(Path("/proc/self/task").iterdir()))

    first, *_, last = (come_and_go() for _ in range(5))
    assert last <= first + 1


def test_a_large_request_is_shared_by_requests_of_openvino(exported):
    """And the answer is the file's own, whoever asks at the same time."""
    path = exported / "openvino/1"
    servable = Servable(path, Batching(), 10**6)
    run = open_session(path / "model.xml").run
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (70, 8, 8, 3)).astype("float32")
    expected = np.concatenate([run({"images": i[None]})["main"] for i in images])
    sizes = [1, 2, 3, 5, 32, 33, 70] * 3
    with ThreadPoolExecutor(8) as pool:
        asked = [{"images": images[:size]} for size in sizes]
        answers = list(pool.map(lambda inputs: servable.predict("", inputs), asked))
    for size, answer in zip(sizes, answers, strict=True):
        np.testing.assert_allclose(answer["main"], expected[:size], atol=1e-6)
    servable.close()
