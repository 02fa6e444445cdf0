"""The server over HTTP, with real exports: every path, limit and failure.

Paths and statuses: http_rest_api_util.cc, http_rest_api_handler.cc and http_server.cc
in tensorflow_serving/model_servers of the repository tensorflow/serving.
"""

import base64
import contextlib
import dataclasses
import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import uvicorn
from google.protobuf import text_format
from PIL import Image
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

import keras_inception as ki
import keras_inception_cli
from keras_inception.server import (
    Batching,
    Limits,
    Manager,
    ModelConfig,
    Models,
    build_app,
)
from keras_inception.server.servable import Servable
from keras_inception_cli import serve

ROOT = Path(__file__).parents[1]
NAMES = ["ant", "bee", "cat"]
PREDICT = "/v1/models/insects:predict"


def classifier(*names: str, seed: int = 0) -> keras.Model:
    """A network that loads faster than GoogLeNet."""
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    initial = keras.initializers.GlorotUniform(seed)
    x = keras.layers.Conv2D(8, 5, strides=4, kernel_initializer=initial)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    initial = keras.initializers.RandomNormal(stddev=3, seed=seed)
    outputs = keras.layers.Dense(
        3, activation="softmax", kernel_initializer=initial, name="main"
    )
    model = keras.Model(inputs, outputs(x))
    model.class_names = names
    return model


@pytest.fixture(scope="module")
def model():
    return classifier(*NAMES)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved_models") / "insects"
    ki.export.export_saved_model(model, directory)
    return directory


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(1)
    small = random.integers(0, 256, (12, 4, 4, 3)).astype("uint8")
    return small.repeat(16, axis=1).repeat(16, axis=2)  # blocks of different colors


@pytest.fixture(scope="module")
def expected(model, images):
    expected = model.predict(images.astype("float32"), verbose=0)
    assert np.abs(expected - expected[0]).max() > 0.01  # the answers differ
    return expected


@contextlib.contextmanager
def serving(directory, limits=None, batching=Batching(), **versions):  # noqa: B008
    """Runs a server in a thread; yields its port."""
    limits = limits or Limits()

    def load(path, runtime):
        return Servable(path, batching, limits.picture_pixels, runtime)

    config = ModelConfig(directory.name, directory)
    models = Models([dataclasses.replace(config, **versions)], load)
    models.update()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = build_app(models, limits)
        config = uvicorn.Config(app, lifespan="off", log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            with models.following(0.05):
                yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port(exported):
    with serving(exported, labels={"stable": 1}) as port:
        yield port


def ask(port, path, body=None, method=None, headers=None):
    """Status and JSON (or text) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        method = method or ("GET" if body is None else "POST")
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        if "json" in response.getheader("content-type", ""):
            content = json.loads(content)
        return response.status, content


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def b64(contents: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(contents).decode()}


def of_bytes(*files: bytes) -> dict:
    inputs = {"image_bytes": [b64(file) for file in files]}
    return {"signature_name": "serving_bytes", "inputs": inputs}


def scores_by_label(classes, scores):
    return [
        dict(zip(c, s, strict=True))[name]
        for c, s in zip(classes, scores, strict=True)
        for name in NAMES
    ]


def test_predict_by_rows_and_by_columns(port, images, expected):
    pixels = images[:2].tolist()
    for name in ("serving_default", "serving_uint8"):
        for body, key in (
            ({"instances": pixels}, "predictions"),
            ({"instances": [{"images": image} for image in pixels]}, "predictions"),
            ({"inputs": pixels}, "outputs"),
            ({"inputs": {"images": pixels}}, "outputs"),
        ):
            status, answer = ask(port, PREDICT, body | {"signature_name": name})
            assert status == 200, answer
            assert list(answer) == [key]
            np.testing.assert_allclose(answer[key], expected[:2], atol=1e-5)
    status, answer = ask(port, PREDICT, {"instances": pixels})
    assert status == 200  # serving_default is the default


def test_predict_from_picture_files(port, images, expected):
    files = [png(image) for image in images[:2]]
    status, answer = ask(port, PREDICT, of_bytes(*files))
    assert status == 200
    outputs = answer["outputs"]
    best = [NAMES[index] for index in expected[:2].argmax(-1)]
    assert [row[0] for row in outputs["classes"]] == best
    found = scores_by_label(outputs["classes"], outputs["scores"])
    np.testing.assert_allclose(found, expected[:2].ravel(), atol=1e-5)
    rows = {"signature_name": "serving_bytes", "instances": [b64(f) for f in files]}
    assert ask(port, PREDICT, rows)[1]["predictions"] == [
        {"classes": classes, "scores": scores}
        for classes, scores in zip(outputs["classes"], outputs["scores"], strict=True)
    ]


def test_classify(port, images):
    files = [png(image) for image in images[:2]]
    body = {
        "signature_name": "classify",
        "examples": [{"image_bytes": b64(file)} for file in files],
    }
    status, answer = ask(port, "/v1/models/insects:classify", body)
    assert status == 200
    outputs = ask(port, PREDICT, of_bytes(*files))[1]["outputs"]
    for row, classes, scores in zip(
        answer["results"], outputs["classes"], outputs["scores"], strict=True
    ):
        assert [label for label, _ in row] == classes
        assert [score for _, score in row] == pytest.approx(scores, abs=1e-6)


def test_an_empty_batch(port):
    status, answer = ask(port, PREDICT, of_bytes())
    assert (status, answer) == (200, {"outputs": {"classes": [], "scores": []}})


def test_status_versions_and_labels(port, images):
    available = {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    body = of_bytes(png(images[0]))
    for path in ("", "/versions/1", "/versions/0001", "/labels/stable"):
        assert ask(port, f"/v1/models/insects{path}") == (200, available)
        assert ask(port, f"/v1/models/insects{path}:predict", body)[0] == 200
        status, answer = ask(port, f"/v1/models/insects{path}/metadata")
        assert status == 200
        assert answer["model_spec"] == {
            "name": "insects",
            "signature_name": "",
            "version": "1",
        }
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    images_input = definitions["serving_uint8"]["inputs"]["images"]
    assert images_input["dtype"] == "DT_UINT8"
    assert images_input["tensor_shape"]["dim"][0] == {"size": "-1", "name": ""}
    # paths are not case-sensitive, names are
    assert ask(port, "/V1/Models/insects") == (200, available)
    assert ask(port, "/V1/MODELS/insects:predict", body)[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models", None, 400, "Missing model name in request."),
        ("/v1/models/other", None, 404, "Could not find any versions of model other"),
        ("/v1/models/insects/versions/9", None, 404, "version 9 of model insects"),
        ("/v1/models/insects/labels/x/metadata", None, 400, "version label: x"),
        ("/v1/models/other/metadata", None, 404, "request: Latest(other)"),
        ("/v1/models/other:predict", {}, 404, "not found for request: Latest(other)"),
        (
            "/v1/models/insects/versions/9:predict",
            {},
            404,
            "Servable not found for request: Specific(insects, 9)",
        ),
        ("/v1/models/insects/versions/x", None, 400, "Malformed request: GET /v1/mod"),
        (f"/v1/models/insects/versions/{2**63}", None, 400, "Failed to convert"),
        ("/v1/models/insects:explain", {}, 400, "Malformed request: POST /v1/models"),
        ("/v1/models/insects", {}, 400, "Malformed request: POST"),
        (PREDICT, None, 400, "Malformed request: GET"),
        ("/elsewhere", None, 404, "Not found: /elsewhere"),
        (PREDICT, b"{", 400, "JSON Parse error"),
        (
            PREDICT,
            {"instances": [[1.0]]},
            400,
            "images has shape [1, 1]; the signature",
        ),
        (PREDICT, {"signature_name": "x", "inputs": []}, 400, 'name: "x" not found'),
        (PREDICT, of_bytes(b"words"), 400, "image_bytes 0 is not a picture"),
        (
            PREDICT,
            {"signature_name": "classify", "inputs": ["words"]},
            400,
            "Could not parse example",
        ),
        (
            "/v1/models/insects:classify",
            {"examples": [{}]},
            400,
            "takes images; classify",
        ),
        (
            "/v1/models/insects:classify",
            {"signature_name": "classify", "examples": [{"other": 1}]},
            400,
            "image_bytes",
        ),
        (
            "/v1/models/insects:regress",
            {"signature_name": "classify", "examples": [{}]},
            400,
            "Expected regression signature",
        ),
    ],
)
def test_bad_requests_have_a_status_and_a_message(port, path, body, status, message):
    found, answer = ask(port, path, body)
    assert found == status
    assert list(answer) == ["error"]
    assert message in answer["error"]


def test_other_verbs_are_malformed(port):
    for verb in ("PUT", "DELETE", "PATCH"):
        status, answer = ask(port, PREDICT, "{}", verb)
        assert (status, answer["error"]) == (
            400,
            f"Malformed request: {verb} {PREDICT}",
        )


def test_a_damaged_picture_is_reported_in_one_line(port, images):
    status, answer = ask(port, PREDICT, of_bytes(png(images[0])[:-60]))
    assert status == 400
    assert "\n" not in answer["error"]
    assert "contents are damaged" in answer["error"]


def test_requests_in_one_batch_do_not_touch_each_other(port, images, expected):
    """Each gets its own answer, and a damaged picture fails alone."""
    files = [png(image) for image in images]

    def one(index):
        which = index % 12
        if index % 5 == 4:
            return ask(port, PREDICT, of_bytes(files[which][:-60]))[0] == 400
        status, answer = ask(port, PREDICT, of_bytes(files[which]))
        outputs = answer["outputs"]
        found = scores_by_label(outputs["classes"], outputs["scores"])
        return status == 200 and np.allclose(found, expected[which], atol=1e-5)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(60)))


def save_probe(path, identity: int) -> None:
    """A SavedModel that answers each row with its batch's size and its own identity."""
    spec = tf.TensorSpec((None,), tf.float32, "x")

    @tf.function(input_signature=[spec])
    def probe(x):
        return {"rows": tf.fill(tf.shape(x), len(x)), "model": 0 * x + identity}

    signatures = {"serving_default": probe}
    tf.saved_model.save(tf.Module(), path, signatures=signatures)


def test_two_models_do_not_share_a_batch(tmp_path):
    """And a model of others is batched on request only."""
    for identity in range(2):
        save_probe(tmp_path / str(identity), identity)

    def ask_both(batching):
        """Each model's answers to 16 concurrent requests of one row: rows, identity."""
        servables = [Servable(tmp_path / name, batching, 1) for name in ("0", "1")]

        def one(index):
            answer = servables[index % 2].predict("", {"x": np.zeros(1, "float32")})
            return answer["rows"].item(), answer["model"].item()

        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(one, range(32)))
        return answers[::2], answers[1::2]

    for identity, answers in enumerate(ask_both(Batching(micros=500_000, every=True))):
        assert {model for _, model in answers} == {identity}
        assert max(rows for rows, _ in answers) > 1  # they were batched at all
    for batching in (None, Batching(micros=100_000)):
        for identity, answers in enumerate(ask_both(batching)):
            assert set(answers) == {(1, identity)}


def test_a_request_larger_than_a_batch_is_answered(port, images, expected):
    body = {"signature_name": "serving_uint8", "inputs": images.tolist() * 4}
    status, answer = ask(port, PREDICT, body)
    assert status == 200
    np.testing.assert_allclose(answer["outputs"], np.tile(expected, (4, 1)), atol=1e-5)


def test_limits_have_their_statuses(exported, images):
    file = png(images[0])
    limits = Limits(body_bytes=50_000, picture_pixels=64 * 64, queue=1, seconds=0.5)
    with serving(exported, limits) as port:
        assert ask(port, PREDICT, of_bytes(file))[0] == 200
        status, answer = ask(port, PREDICT, b" " * 50_001)
        assert (status, answer["error"]) == (
            413,
            "The body is larger than 50,000 bytes",
        )
        chunks = iter([b" " * 10_000] * 6)  # without a Content-Length
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", PREDICT, chunks, encode_chunked=True)
            assert connection.getresponse().status == 413
        large = png(np.zeros((64, 65, 3), "uint8"))
        status, answer = ask(port, PREDICT, of_bytes(file, large))
        assert status == 413
        assert "image_bytes 1 has 4,160 pixels; at most 4,096" in answer["error"]
        classify = {"signature_name": "classify"}
        examples = classify | {"examples": [{"image_bytes": b64(large)}]}
        assert ask(port, "/v1/models/insects:classify", examples)[0] == 413
        inside = tf.train.Example()  # the same by predict
        inside.features.feature["image_bytes"].bytes_list.value.append(large)
        inputs = classify | {"inputs": [b64(inside.SerializeToString())]}
        assert ask(port, PREDICT, inputs)[0] == 413
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{"
            slow.sendall(head.encode())  # and nothing after it
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.sendall(head.encode())
        with ThreadPoolExecutor(8) as pool:
            statuses = list(
                pool.map(lambda _: ask(port, PREDICT, of_bytes(file))[0], range(24))
            )
        assert set(statuses) == {200, 503}
        assert ask(port, PREDICT, of_bytes(file))[0] == 200  # and continues to answer


def test_a_late_answer_is_a_504(tmp_path):
    class Slow(tf.Module):
        """Counts to 300,000, which takes longer than a fifth of a second."""

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
        def answer(self, x):
            step = lambda number, y: (number + 1, y + 1.0)  # noqa: E731
            more = lambda number, y: number < 300_000  # noqa: E731
            return {"y": tf.while_loop(more, step, (0, x))[1]}

    model = Slow()
    path = str(tmp_path / "insects/1")
    tf.saved_model.save(model, path, signatures={"serving_default": model.answer})
    with serving(tmp_path / "insects", Limits(seconds=0.02)) as port:
        statuses = {ask(port, PREDICT, {"instances": [1.0]})[0] for _ in range(3)}
    assert statuses == {504}


def test_metrics(exported, images):
    with serving(exported) as port:
        ask(port, PREDICT, of_bytes(png(images[0])))
        ask(port, PREDICT, b"{")
        for path in ("/metrics", "/monitoring/prometheus/metrics"):
            status, text = ask(port, path)
            assert status == 200
            for line in (
                b'keras_inception_requests_total{method="predict",status="200"} 1.0',
                b'keras_inception_requests_total{method="predict",status="400"} 1.0',
                b'keras_inception_request_seconds_count{method="predict"} 2.0',
                b"keras_inception_requests_under_way 0.0",
                b'version_available{model="insects",version="1"} 1.0',
            ):
                assert line in text


@pytest.mark.slow
def test_a_new_version_under_load_fails_no_request(exported, tmp_path, images):
    """16 clients ask while version 2 appears: 1 answers, then 2, and none fails."""
    directory = tmp_path / "insects"
    directory.mkdir()
    (directory / "1").symlink_to(exported / "1")
    other = classifier("dog", "eel", "fox")
    body = json.dumps(of_bytes(png(images[0])))
    done = threading.Event()

    def client(_):
        seen = []
        while not done.is_set():
            status, answer = ask(port, PREDICT, body)
            assert status == 200, answer
            labels = set(answer["outputs"]["classes"][0])
            seen.append(1 if labels == set(NAMES) else 2)
        return seen

    with serving(directory) as port, ThreadPoolExecutor(16) as pool:
        answers = pool.map(client, range(16))
        try:
            assert ki.export.export_saved_model(other, directory).name == "2"
            deadline = time.monotonic() + 60
            while (
                states := {
                    s["version"]: s["state"]
                    for s in ask(port, "/v1/models/insects")[1]["model_version_status"]
                }
            ) != {"1": "END", "2": "AVAILABLE"}:
                assert time.monotonic() < deadline, states
                time.sleep(0.02)
            time.sleep(0.2)
        finally:
            done.set()
        for seen in answers:
            assert seen == sorted(seen)
            assert set(seen) == {1, 2}


def test_the_page_is_one_file_with_the_model_name(exported):
    with serving(exported, name='<b>"&') as port:
        status, page = ask(port, "/")
        page = page.decode()
    assert status == 200
    assert "<title>&lt;b&gt;&quot;&amp;</title>" in page
    assert 'model = "\\u003cb>\\"&"' in page
    assert not re.findall(r"(?:src|href)=[\"']?\w", page)  # nothing is loaded


@pytest.fixture(scope="module")
def process(exported):
    """`keras-inception serve` as users start it; yields the process and its address."""
    words = [sys.executable, "-m", "keras_inception_cli", "serve", exported]
    running = subprocess.Popen(
        [*words, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    lines = [running.stdout.readline() for _ in range(3)]
    assert lines[0] == "serving insects, version 1\n", running.stderr.read()
    yield running, re.search(r"http\S+/v1/models/insects", lines[2]).group()
    running.kill()
    running.communicate()


def test_predict_asks_a_server(process, exported, images, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(png(images[0]))
    (tmp_path / "b.txt").write_text("words")
    (tmp_path / "bom.b").touch()
    image = str(tmp_path / "a.png")
    assert keras_inception_cli.main(["predict", str(exported), image]) == 0
    local = capsys.readouterr().out
    for tail in ("", ":predict", "/versions/1"):
        words = ["predict", "--url", process[1] + tail, image]
        assert keras_inception_cli.main(words) == 0
        assert capsys.readouterr().out == local
    for words, message in (
        ([process[1], str(tmp_path / "b.txt")], "its contents are not a picture"),
        ([process[1] + "/versions/9", image], "answers 404: Servable not found"),
        (["http://127.0.0.1:9/v1/models/x", image], "No server at http://127.0.0.1:9"),
        ([process[1], str(tmp_path / "none.png")], "there is no such file"),
    ):
        assert keras_inception_cli.main(["predict", "--url", *words]) == 1
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1


def test_a_server_answers_a_folder(exported, images, expected, tmp_path, capsys):
    """A name that must be quoted, pictures it refuses, formats it does not know."""
    name = "mü 日#?:%"
    for index, image in enumerate(images):
        (tmp_path / f"{index:02}.png").write_bytes(png(image))
    Image.fromarray(images[0]).save(tmp_path / "tiff.tif")
    (tmp_path / "wide.png").write_bytes(png(np.zeros((2, 6000, 3), "uint8")))
    (tmp_path / "notes.txt").touch()
    shown = io.StringIO()
    with serving(exported, Limits(picture_pixels=10_000), name=name) as port:
        manager = Manager(ModelConfig(name, exported), Servable)
        with contextlib.redirect_stdout(shown):
            serve._print_address(f"http://127.0.0.1:{port}", manager)
        printed = re.search(r"for programs +(\S+)\n", shown.getvalue()).group(1)
        for url in (printed, f"http://127.0.0.1:{port}/v1/models/{name}"):
            words = ["predict", "--url", url, str(tmp_path), "--json", "--top", "1"]
            assert keras_inception_cli.main(words) == 1
            out, err = capsys.readouterr()
            answers = [json.loads(line) for line in out.splitlines()]
            best = [next(iter(x["classes"])) for x in answers if "classes" in x]
            right = [NAMES[index] for index in expected.argmax(-1)]
            assert best == [*right, right[0]]
            assert "12,000 pixels; at most 10,000" in answers[-1]["error"]
            assert err.count("\n") == 2
            assert "passed over: 1 not pictures (1 .txt)" in err


def test_the_rest_example_and_the_health_check(process, images, expected, tmp_path):
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes(png(images[index]))
    files = [str(tmp_path / f"{index}.png") for index in range(2)]
    words = [sys.executable, ROOT / "examples/ask_rest.py", process[1], *files]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    best = expected[:2].argmax(-1)
    for file, index, line in zip(files, best, out.splitlines(), strict=True):
        assert line.startswith(f"{file}: {NAMES[index]} (0.")
    port = re.search(r":(\d+)/", process[1]).group(1)
    for kit in ("docker-compose.yml", "kubernetes.yaml"):
        text = (ROOT / "saved_models" / kit).read_text()
        checks = re.findall(r"(exec 3<>.*?<&3)", text, re.S)
        assert len(checks) == (2 if kit == "kubernetes.yaml" else 1)
        for check in checks:
            check = check.replace("8501", port)
            for name, status in (("digits", 1), ("insects", 0)):
                script = check.replace("models/digits", f"models/{name}")
                done = subprocess.run(["bash", "-c", script], timeout=20)
                assert done.returncode == status


def test_sigterm_finishes_requests_in_progress_and_stops(process, images):
    running, url = process
    host, port = re.match(r"http://([^:]+):(\d+)", url).groups()
    body = json.dumps(of_bytes(png(images[0]))).encode()
    with socket.create_connection((host, int(port)), timeout=30) as client:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        client.sendall(head.encode() + b"\r\n" + body[:100])
        time.sleep(0.5)  # the server has begun to read
        running.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError):  # new connections are refused
            socket.create_connection((host, int(port)), timeout=5).close()
        client.sendall(body[100:])
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200")
    assert running.wait(30) == 0
    assert running.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/none"], "There is no directory"),
        (["{tmp}"], "it holds directories of versions. Serve one of bad"),
        (["{tmp}/bad"], "has no version to serve: version 1: "),
        (["{tmp}", "--versions", "x"], "--versions takes latest, all, or numbers"),
        (["{tmp}", "--label", "a=b"], "--label takes LABEL=VERSION"),
        (["{tmp}", "--timeout", "0"], "--timeout must be above 0, and at most"),
        (["{tmp}", "--max-queue", "0"], "--max-queue must be at least 1"),
    ],
)
def test_serve_refuses_in_one_line(tmp_path, capsys, words, message):
    (tmp_path / "bad/1").mkdir(parents=True)
    words = [word.format(tmp=tmp_path) for word in words]
    assert keras_inception_cli.main(["serve", *words]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_tf_serving_parses_the_configuration_files():
    kit = ROOT / "saved_models"
    text = (kit / "models.config").read_text()
    parsed = text_format.Parse(text, ModelServerConfig())
    (config,) = parsed.model_config_list.config
    assert (config.name, config.base_path) == ("digits", "/models/digits")
    for file in ("batching.config", "monitoring.config"):
        for use in ("docker-compose.yml", "kubernetes.yaml"):
            assert f"=/models/{file}" in (kit / use).read_text()
