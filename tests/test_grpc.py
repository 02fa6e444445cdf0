"""Both doors of a server process with a models.config: gRPC beside REST.

Rules: prediction_service_impl.cc, predict_util.cc, get_model_status_impl.cc and
get_model_metadata_impl.cc of the repository tensorflow/serving.
"""

import asyncio
import json
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_pictures, small_supervised
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

import keras_inception as ki
from keras_inception.server import Limits, Models
from keras_inception.server.grpc_service import grpc_door
from keras_inception.server.metrics import Metrics
from keras_inception.server.workers import Workers

ROOT = Path(__file__).parents[1]
NAMES = ["ant", "bee", "cat"]
CONFIG = """
model_config_list {{
  config {{ name: "insects" base_path: "{root}/insects" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }} }}
  config {{ name: "numbers" base_path: "{root}/numbers" model_platform: "tensorflow" }}
  {more}
}}
"""
LATER = 'config {{ name: "later" base_path: "{root}/l" model_platform: "tensorflow" }}'


class Server(NamedTuple):
    root: Path
    url: str
    channel: grpc.Channel

    @property
    def predictions(self):
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def models(self):
        return model_service_pb2_grpc.ModelServiceStub(self.channel)

    def health(self, service=""):
        stub = health_pb2_grpc.HealthStub(self.channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service)).status

    def rest(self, path, body=None):
        """Status and body of a request."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(self.url + path, data, timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def configure(self, more=""):
        text = CONFIG.format(root=self.root, more=more.format(root=self.root))
        (self.root / "models.config").write_text(text)


def save_numbers(path):
    """A model that this package did not make: half_plus_two, and one of whole batches.

    It has a second meta graph, and warm-up records without a signature name and of
    other kinds than predict.
    """
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    scalar = tf.TensorSpec((None, 1), tf.float32, "x")
    text = tf.TensorSpec((None,), tf.string, "inputs")

    @tf.function(input_signature=[scalar])
    def half_plus_two(x):
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[scalar])
    def mean(x):
        return {"mean": tf.fill(tf.shape(x)[:1], tf.reduce_mean(x))}

    @tf.function(input_signature=[text])
    def regress(inputs):
        feature = tf.io.FixedLenFeature((), tf.float32)
        x = tf.io.parse_example(inputs, {"x": feature})["x"]
        return {"outputs": x / 2 + 2}

    signatures = {"serving_default": half_plus_two, "mean": mean, "regress": regress}
    tf.saved_model.save(tf.Module(), str(path), signatures=signatures)
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = path / "saved_model.pb"
    model = SavedModel.FromString(file.read_bytes())
    other = model.meta_graphs.add()
    other.CopyFrom(model.meta_graphs[0])
    del other.meta_info_def.tags[:]
    other.meta_info_def.tags.append("train")
    other.ClearField("signature_def")
    model.meta_graphs.reverse()
    file.write_bytes(model.SerializeToString())
    (path / "assets.extra").mkdir()
    records = path / "assets.extra/tf_serving_warmup_requests"
    plain, regression = PredictionLog(), PredictionLog()
    x = tf.make_tensor_proto([[1.0]])
    plain.predict_log.request.inputs["x"].CopyFrom(x)
    request = regression.regress_log.request
    request.model_spec.signature_name = "regress"
    request.input.example_list.examples.add().features.feature[
        "x"
    ].float_list.value.append(1)
    with tf.io.TFRecordWriter(str(records)) as writer:
        for log in (plain, regression):
            writer.write(log.SerializeToString())


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def model():
    model = small_supervised()
    model.class_names = NAMES
    return model


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    ki.export.export_saved_model(model, root / "insects")
    (root / "insects/2").symlink_to(root / "insects/1")
    (root / "l").mkdir()
    save_numbers(root / "numbers/1")
    port = free_port()
    Server(root, "", None).configure(LATER)
    words = [sys.executable, "-m", "keras_inception_cli", "serve", "--port", "0"]
    words += ["--model-config-file", root / "models.config", "--grpc-port", str(port)]
    words += ["--model-config-file-poll-seconds", "0.2", "--access-log"]
    with (root / "out").open("w") as out, (root / "err").open("w") as err:
        process = subprocess.Popen(words, stdout=out, stderr=err, cwd=ROOT)

    def printed(name):
        return (root / name).read_text()

    wait_for(lambda: printed("out").count("\n") == 10 or process.poll() is not None)
    lines = printed("out").splitlines()
    assert lines[-1] == f"  for gRPC      127.0.0.1:{port}", printed("err")
    assert lines[0] == "serving insects, version 1, 2"
    assert lines[6].startswith("serving later, version none yet, waiting for one in /")
    url = re.search(r"http://[\d.]+:\d+", lines[1]).group()
    sizes = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", sizes) as channel:
        yield Server(root, url, channel)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    # oneDNN announces that it does not transpose uint8
    assert all("oneDNN" in line for line in printed("err").splitlines())
    assert '"POST /v1/models/insects%3Apredict HTTP/1.1" 200' in printed("out")
    assert '"gRPC Predict HTTP/2" 200' in printed("out")


def request_of(name="insects", signature="", version=None, label=None, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def arrays(response):
    return {key: tf.make_ndarray(value) for key, value in response.outputs.items()}


def refused(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=60)
    return caught.value.code().name, caught.value.details()


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pngs(images):
    return [tf.io.encode_png(image.astype("uint8")).numpy() for image in images]


def test_a_model_without_a_version_is_waited_for(server):
    """Must run first."""
    assert server.rest("/v2/health/live") == (200, '{"live":true}')
    assert server.rest("/v2/health/ready") == (503, '{"ready":false}')
    assert server.health() == health_pb2.HealthCheckResponse.NOT_SERVING
    assert server.rest("/v1/models/later")[0] == 404
    shutil.copytree(server.root / "numbers/1", server.root / "l/.partial")
    (server.root / "l/.partial").rename(server.root / "l/1")
    wait_for(lambda: server.rest("/v2/health/ready") == (200, '{"ready":true}'))
    serving = health_pb2.HealthCheckResponse.SERVING
    wait_for(lambda: server.health() == serving)
    assert server.health("tensorflow.serving.PredictionService") == serving
    server.configure()  # it goes again, and the file may be broken for a while
    wait_for(lambda: "END" in server.rest("/v1/models/later")[1])
    (server.root / "models.config").write_text("model_config_list {")
    wait_for(lambda: "in text form" in (server.root / "out").read_text())
    server.configure()
    assert server.rest("/v1/models/insects")[0] == 200


def test_both_doors_answer_equally(server, model):
    images, _ = small_pictures(5)
    expected = model.predict(images, verbose=0)["main"]
    _, body = server.rest(
        "/v1/models/insects:predict", {"instances": images.astype(int).tolist()}
    )
    np.testing.assert_allclose(json.loads(body)["predictions"], expected, atol=1e-5)
    response = server.predictions.Predict(request_of(images=images))
    np.testing.assert_allclose(arrays(response)["main"], expected, atol=1e-5)
    assert len(response.outputs["main"].float_val) == 15  # the field that others read
    spec = response.model_spec
    assert (spec.name, spec.signature_name) == ("insects", "serving_default")
    assert spec.version.value == 2
    files = pngs(images)
    ranked = arrays(
        server.predictions.Predict(
            request_of(signature="serving_bytes", image_bytes=files)
        )
    )
    np.testing.assert_allclose(ranked["scores"], -np.sort(-expected), atol=1e-5)
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "insects"
    request.model_spec.signature_name = "classify"
    for file in files:
        example = request.input.example_list.examples.add()
        example.features.feature["image_bytes"].bytes_list.value.append(file)
    for row, classes, scores in zip(
        server.predictions.Classify(request).result.classifications,
        ranked["classes"],
        ranked["scores"],
        strict=True,
    ):
        assert [c.label.encode() for c in row.classes] == classes.tolist()
        assert [c.score for c in row.classes] == pytest.approx(scores.tolist(), 1e-5)


def test_outputs_can_be_filtered(server):
    request = request_of(
        signature="serving_bytes", image_bytes=pngs(np.ones((1, 9, 9, 3)))
    )
    request.output_filter.append("scores")
    assert set(server.predictions.Predict(request).outputs) == {"scores"}
    request.output_filter.append("scores")
    assert refused(server.predictions.Predict, request) == (
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: scores",
    )


def test_a_model_of_others_gets_its_batch_whole(server):
    """And takes shapes that its signature does not name, as TF Serving does."""

    def mean_of(index):
        request = request_of("numbers", "mean", x=[[float(index)], [index + 2.0]])
        return arrays(server.predictions.Predict(request))["mean"].tolist()

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(mean_of, range(48))) == [[i + 1, i + 1] for i in range(48)]
    response = server.predictions.Predict(request_of("numbers", x=[1.0, 2.0, 5.0]))
    assert arrays(response)["y"].tolist() == [2.5, 3, 4.5]
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "numbers"
    request.model_spec.signature_name = "regress"
    with_context = request.input.example_list_with_context
    with_context.context.features.feature["x"].float_list.value.append(6)
    with_context.examples.add()
    result = server.predictions.Regress(request).result
    assert [regression.value for regression in result.regressions] == [5]


def declaring(size):
    request = request_of(images=[1.0])
    request.inputs["images"].tensor_shape.dim[0].size = size
    return request


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (request_of(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (request_of("x"), "NOT_FOUND", "Servable not found for request: Latest(x)"),
        (request_of(version=9), "NOT_FOUND", "request: Specific(insects, 9)"),
        (request_of(label="x y"), "INVALID_ARGUMENT", "version label: x y"),
        (request_of("nobody", label="x"), "INVALID_ARGUMENT", "version label: x"),
        (request_of(signature="x"), "FAILED_PRECONDITION", 'key "x" not found.'),
        (request_of(), "INVALID_ARGUMENT", "Missing but required: {images}."),
        (request_of(images=[1], z=[1]), "INVALID_ARGUMENT", "type int32"),
        (request_of(images=[1.0], z=[1]), "INVALID_ARGUMENT", "Sent extra: {z}"),
        (request_of(images=[1.0]), "INVALID_ARGUMENT", "images has shape [1]; the"),
        (declaring(2**40), "RESOURCE_EXHAUSTED", "declares more than 268,435,456"),
        (declaring(-1), "INVALID_ARGUMENT", "images has no full shape"),
        (
            request_of(signature="serving_bytes", image_bytes=[b"words"]),
            "INVALID_ARGUMENT",
            "not a picture",
        ),
    ],
)
def test_bad_requests_have_a_code_and_a_message(server, request_, code, message):
    found, details = refused(server.predictions.Predict, request_)
    assert (found, message in details) == (code, True), details


def test_messages_larger_than_grpcs_default_pass(server):
    images = np.zeros((30_000, 8, 8, 3), "uint8")  # 6 MB
    response = server.predictions.Predict(
        request_of(signature="serving_uint8", images=images)
    )
    assert arrays(response)["main"].shape == (30_000, 3)


def test_status_and_metadata(server):
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "insects"
    found = server.models.GetModelStatus(status).model_version_status
    assert [(v.version, v.state) for v in found] == [(2, 30), (1, 30)]  # AVAILABLE
    status.model_spec.version.value = 9
    assert refused(server.models.GetModelStatus, status)[0] == "NOT_FOUND"
    metadata = get_model_metadata_pb2.GetModelMetadataRequest()
    metadata.model_spec.name = "insects"
    metadata.model_spec.version_label = "stable"
    assert refused(server.predictions.GetModelMetadata, metadata)[1] == (
        "GetModelMetadataRequest must specify at least one metadata_field"
    )
    metadata.metadata_field.append("signature_def")
    answer = server.predictions.GetModelMetadata(metadata)
    assert answer.model_spec.version.value == 1
    found = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(found)
    definition = found.signature_def["serving_bytes"]
    assert definition.inputs["image_bytes"].dtype == tf.string.as_datatype_enum
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        server.predictions.MultiInference(inference_pb2.MultiInferenceRequest())
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        server.health("unknown")


def test_metrics_have_tf_servings_names(server):
    request = request_of("numbers", x=[[1.0]])
    server.predictions.Predict(request)
    server.rest("/v1/models/numbers:predict", {"instances": [[1.0]]})
    refused(server.predictions.Predict, request_of("stranger"))
    status, text = server.rest("/monitoring/prometheus/metrics")
    assert status == 200
    for pattern in (
        r"# TYPE :tensorflow:serving:request_count counter\n",
        r'^:tensorflow:serving:request_count\{model_name="numbers",status="OK"\} \d',
        r'^:tensorflow:serving:request_count\{model_name="",status="NOT_FOUND"\} \d',
        r"# TYPE :tensorflow:serving:request_latency histogram\n",
        r'^:tensorflow:serving:request_latency_bucket\{API="Predict",entrypoint="GRPC"'
        r',le="10.0",model_name="numbers"\} 0',
        r'request_latency_count\{API="predict",entrypoint="REST",model_name="numbers"\}',
        r'^keras_inception_version_available\{model="insects",version="1"\} 1.0',
    ):
        assert re.search(pattern, text, re.M), pattern
    assert "stranger" not in text
    assert not re.search(r"tensorflow:serving:\w+_(total|created)", text)


def test_the_example_asks(server, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(pngs(small_pictures(1)[0])[0])
    address = re.search(
        r"gRPC\s+(\S+)", f"gRPC {server.channel._channel.target().decode()}"
    )
    words = ["ask_grpc.py", address.group(1), "insects", str(tmp_path / "a.png")]
    with mock.patch.object(sys, "argv", words):
        runpy.run_path(str(ROOT / "examples/ask_grpc.py"), run_name="__main__")
    assert re.match(rf".*a\.png: ({'|'.join(NAMES)}) \(0\.", capsys.readouterr().out)


class Slow(Models):
    """Models whose status takes until `told` is set."""

    def __init__(self):
        super().__init__([], None)
        self.told = threading.Event()

    def status(self, spec):
        self.told.wait(60)
        return super().status(spec)


def test_messages_of_all_requests_together_are_limited():
    """Also while they arrive, and while a thread works after its time is over."""
    limits = Limits(message_bytes=1000, queue=10, seconds=1.0)
    models, workers = Slow(), Workers(limits)
    address = f"127.0.0.1:{free_port()}"
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "x" * 950
    path = "/tensorflow.serving.ModelService/GetModelStatus"

    async def code(call):
        try:
            return await call
        except grpc.RpcError as error:
            return error.code().name

    async def ask():
        metrics = Metrics(models, workers)
        async with (
            grpc_door(models, limits, workers, metrics, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            get = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
            late = await asyncio.gather(*(code(get(request)) for _ in range(8)))
            assert set(late) == {"DEADLINE_EXCEEDED"}
            assert await code(get(request)) == "RESOURCE_EXHAUSTED"
            models.told.set()
            for _ in range(100):
                if (found := await code(get(request))) != "RESOURCE_EXHAUSTED":
                    break
                await asyncio.sleep(0.05)
            assert found == "NOT_FOUND"
            stream = channel.stream_unary(path)
            silent = [asyncio.create_task(code(stream())) for _ in range(10)]
            await asyncio.sleep(0.3)
            began = time.monotonic()
            assert await code(get(request)) == "NOT_FOUND"  # has waited for its turn
            assert time.monotonic() - began > 0.3
            assert set(await asyncio.gather(*silent)) == {"DEADLINE_EXCEEDED"}
            assert await code(stream([b"\xff"])) == "INVALID_ARGUMENT"
            assert await code(stream([])) == "INVALID_ARGUMENT"

    asyncio.run(ask())
