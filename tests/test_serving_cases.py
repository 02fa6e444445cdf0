"""TF Serving's cases over HTTP, with models that no one trained.

Statuses and shapes of answers are those of tensorflow/serving: http_rest_api_util.cc,
http_server.cc and http_rest_api_handler_test.cc in tensorflow_serving/model_servers,
predict_util.cc, classifier.cc and regressor.cc in
tensorflow_serving/servables/tensorflow, json_tensor.cc in tensorflow_serving/util.
"""

import asyncio
import base64
import contextlib
import gzip
import http.client
import json
import socket
import struct
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import uvicorn

from keras_inception.server import Batching, Limits, Models, build_app
from keras_inception.server.batch_queue import BatchQueue
from keras_inception.server.connections import Protocol
from keras_inception.server.limits import ServingError
from keras_inception.server.manager import ModelConfig
from keras_inception.server.servable import Servable
from keras_inception.server.workers import Workers

V1 = "/v1/models/cases"


class Cases(tf.Module):
    """The signatures of saved_model_half_plus_two, and unusual ones."""

    def __init__(self):
        self.half = tf.Variable(0.5)

    def plus(self, x, y):
        return self.half * x + y

    def parsed(self, inputs):
        feature = {"x": tf.io.FixedLenFeature((1,), tf.float32)}
        return tf.io.parse_example(inputs, feature)["x"]

    def signatures(self):
        """The signatures by name."""
        found = {}

        def signature(**inputs):
            specs = [tf.TensorSpec(*spec, name) for name, spec in inputs.items()]

            def add(function):
                found[function.__name__] = tf.function(function, input_signature=specs)

            return add

        number, text = ([None, 1], tf.float32), ([None], tf.string)

        @signature(x=number)
        def serving_default(x):
            return {"y": self.plus(x, 2)}

        @signature(inputs=text)
        def regress_x_to_y(inputs):
            return {"outputs": self.plus(self.parsed(inputs), 2)}

        @signature(inputs=text)
        def regress_x_to_y_flat(inputs):
            return {"outputs": self.plus(self.parsed(inputs), 2)[:, 0]}

        @signature(inputs=text)
        def regress_wide(inputs):
            return {"outputs": tf.tile(self.parsed(inputs), [1, 2])}

        @signature(inputs=text)
        def regress_integers(inputs):
            return {"outputs": tf.cast(self.parsed(inputs), tf.int32)}

        @signature(inputs=text)
        def regress_one(inputs):
            return {"outputs": self.parsed(inputs)[:1]}

        @signature(inputs=text)
        def classify_x_to_y(inputs):
            return {"scores": self.plus(self.parsed(inputs), 2)}

        @signature(inputs=text)
        def classes_alone(inputs):
            return {"classes": tf.strings.as_string(self.parsed(inputs), 1)}

        @signature(inputs=text)
        def both(inputs):
            x = self.parsed(inputs)
            pair = tf.concat([x, x + 1], 1)
            return {"classes": tf.strings.as_string(pair, 1), "scores": pair}

        @signature(inputs=text)
        def both_flat(inputs):
            x = self.parsed(inputs)[:, 0]
            return {"classes": tf.strings.as_string(x), "scores": x}

        @signature(inputs=text)
        def integer_scores(inputs):
            return {"scores": tf.cast(self.parsed(inputs), tf.int32)}

        @signature(inputs=text)
        def numeric_classes(inputs):
            return {"classes": self.parsed(inputs)}

        @signature(inputs=text)
        def unequal_widths(inputs):
            x = self.parsed(inputs)
            wide = tf.concat([x, x], 1)
            return {"classes": tf.strings.as_string(wide), "scores": x}

        @signature(inputs=text)
        def one_row(inputs):
            return {"scores": self.parsed(inputs)[:1]}

        @signature(inputs=text)
        def three_outputs(inputs):
            x = self.parsed(inputs)
            return {"scores": x, "classes": tf.strings.as_string(x), "more": x}

        @signature(x=number)
        def no_batch(x):
            return {
                "y": self.plus(x, 2),
                "total": tf.reduce_sum(x),
                "vocabulary": tf.constant(["a", "b", "c"]),
                "name": tf.constant("n"),
            }

        @signature(x=number)
        def scalar(x):
            return {"total": tf.reduce_sum(x)}

        @signature(image_bytes=text)
        def length(image_bytes):
            return {"length": tf.strings.length(image_bytes)}

        @signature(s=(None, tf.string))
        def echo(s):
            return {"echo": tf.identity(s), "echo_bytes": tf.identity(s)}

        @signature(x=(None, tf.float32), k=(None, tf.int64))
        def two(x, k):
            return {"x": tf.identity(x), "k": tf.identity(k)}

        for dtype in ("half", "bfloat16", "complex64", "uint16"):

            def takes(x):
                return {"size": tf.size(x)}

            def returns(x, dtype=dtype):
                return {"y": tf.cast(x, dtype)}

            takes.__name__, returns.__name__ = f"takes_{dtype}", f"returns_{dtype}"
            signature(x=(None, tf.as_dtype(dtype)))(takes)
            signature(x=(None, tf.float32))(returns)
        return found


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "cases"
    module = Cases()
    tf.saved_model.save(module, directory / "123", signatures=module.signatures())
    return directory


def app_of(directory, limits=None, labels=(), **options):
    """The application that serves one model, each request alone."""
    limits = limits or Limits()

    def load(path, *, runtime):
        return Servable(path, None, limits.picture_pixels, runtime)

    config = ModelConfig(directory.name, directory, labels=dict(labels))
    models = Models([config], load)
    models.update()
    return build_app(models, limits, **options)


@pytest.fixture(scope="module")
def app(cases):
    return app_of(cases, labels={"stable": 123})


def ask(app, path, body=None, verb=None, headers=()):
    """Status, headers and content of one request, without a socket."""
    if body is not None and not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    verb = verb or ("GET" if body is None else "POST")
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": verb,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    content = b"".join(message.get("body", b"") for message in sent[1:])
    if content[:1] in (b"{", b"["):
        content = json.loads(content)
    names = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], names, content


def predict(app, signature, **body):
    status, _, answer = ask(app, f"{V1}:predict", {"signature_name": signature} | body)
    return status, answer


# http_rest_api_handler_test.cc: Predict, Regress, Classify, GetStatus

HALF_PLUS_TWO = [
    (":predict", {"instances": [[1.0, 2.0], [3.0, 4.0]]}, [[2.5, 3.0], [3.5, 4.0]]),
    (":predict", {"instances": [1.0, 2.0, 5.0]}, [2.5, 3.0, 4.5]),  # of every tutorial
    (":predict", {"instances": [16777217]}, [8388610.0]),
    (":predict", {"inputs": [3.0, 4.0]}, [3.5, 4.0]),
    (":predict", {"inputs": 1}, 2.5),
    (":predict", {"inputs": [[[1]]]}, [[[2.5]]]),
    (":predict", {"inputs": []}, []),
    (":predict", {"instances": [[], []]}, [[], []]),
    (
        ":regress",
        {"signature_name": "regress_x_to_y", "examples": [{"x": 80.0}, {"x": 2.0}]},
        [42.0, 3.0],
    ),
    (
        ":regress",
        {"signature_name": "regress_x_to_y_flat", "examples": [{"x": 80.0}]},
        [42.0],
    ),
    (
        ":regress",
        {
            "signature_name": "regress_x_to_y",
            "context": {"x": 80.0},
            "examples": [{}, {"x": 2.0}],
        },
        [42.0, 3.0],
    ),
    (
        ":classify",
        {"signature_name": "classify_x_to_y", "examples": [{"x": 20.0}]},
        [[["", 12.0]]],
    ),
    (
        ":classify",
        {"signature_name": "classes_alone", "examples": [{"x": 2.0}, {"x": 3.0}]},
        [[["2.0", 0.0]], [["3.0", 0.0]]],
    ),
    (
        ":classify",
        {"signature_name": "both", "examples": [{"x": 2.0}]},
        [[["2.0", 2.0], ["3.0", 3.0]]],
    ),
]


@pytest.mark.parametrize("path", [V1, f"{V1}/versions/123", f"{V1}/labels/stable"])
def test_half_plus_two(app, path):
    for method, body, expected in HALF_PLUS_TWO:
        status, headers, answer = ask(app, path + method, body)
        assert status == 200, (method, body, answer)
        assert headers["content-type"] == "application/json"
        (found,) = answer.values()
        assert found == expected, (method, body)


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        ("classify", "both_flat"),
        ("classify", "integer_scores"),
        ("classify", "numeric_classes"),
        ("classify", "unequal_widths"),
        ("classify", "three_outputs"),
        ("classify", "one_row"),
        ("classify", "regress_x_to_y"),
        ("classify", ""),
        ("classify", "none"),
        ("regress", "classify_x_to_y"),
        ("regress", "regress_wide"),
        ("regress", "regress_integers"),
        ("regress", "regress_one"),
        ("regress", ""),
        ("regress", "echo"),
    ],
)
def test_signatures_that_do_not_classify_or_regress(app, method, signature):
    """PostProcessClassificationResult and PostProcessRegressionResult."""
    body = {"signature_name": signature, "examples": [{"x": 2.0}, {"x": 3.0}]}
    status, _, answer = ask(app, f"{V1}:{method}", body)
    assert status == 400
    assert answer["error"]


def test_outputs_without_a_batch(app):
    """MakeColumnarFormatJsonFromTensors has no batch; rows need one."""
    expected = {"y": [[2.5]], "total": 1.0, "vocabulary": ["a", "b", "c"], "name": "n"}
    assert predict(app, "no_batch", inputs=[[1]]) == (200, {"outputs": expected})
    assert predict(app, "no_batch", instances=[[1]])[0] == 400
    assert predict(app, "scalar", inputs=[[1], [2]]) == (200, {"outputs": 3.0})
    assert predict(app, "scalar", instances=[[1], [2]])[0] == 400


def test_a_name_makes_no_picture(app):
    assert predict(app, "length", inputs=["words", {"b64": "AA=="}]) == (
        200,
        {"outputs": [5, 1]},
    )
    assert predict(app, "length", instances=[{"image_bytes": "x"}])[0] == 200


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text", "text"),
        ({"b64": "dGV4dA=="}, "text"),
        (["a", {"b64": "Yg=="}], ["a", "b"]),
        ([], []),
        ([[], []], [[], []]),
        ([["é😀"], ["\0"]], [["é😀"], ["\0"]]),
    ],
)
def test_strings_and_bytes(app, content, expected):
    status, answer = predict(app, "echo", inputs=content)
    assert status == 200, answer
    assert answer["outputs"]["echo"] == expected

    def encoded(value):
        if isinstance(value, list):
            return list(map(encoded, value))
        return {"b64": base64.b64encode(value.encode()).decode()}

    assert answer["outputs"]["echo_bytes"] == encoded(expected)


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "complex64", "uint16"])
def test_types_that_json_cannot_carry(app, dtype):
    assert predict(app, f"takes_{dtype}", instances=[1])[0] == 400
    assert predict(app, f"takes_{dtype}", inputs=[1])[0] == 501
    assert predict(app, f"takes_{dtype}", inputs=[]) == (200, {"outputs": 0})
    assert predict(app, f"returns_{dtype}", instances=[1])[0] == 400
    assert predict(app, f"returns_{dtype}", inputs=[1])[0] == 400
    assert predict(app, f"returns_{dtype}", inputs=[]) == (200, {"outputs": []})


def test_inputs_of_unequal_batches_are_the_models_business(app):
    assert predict(app, "two", inputs={"x": [1], "k": [1, 2]}) == (
        200,
        {"outputs": {"x": [1.0], "k": [1, 2]}},
    )
    rows = [{"x": 1, "k": [1, 2]}, {"x": 2, "k": [3, 4]}]
    expected = [{"x": 1.0, "k": [1, 2]}, {"x": 2.0, "k": [3, 4]}]
    assert predict(app, "two", instances=rows) == (200, {"predictions": expected})
    assert predict(app, "two", instances=[{"b64": "AA=="}])[0] == 400
    assert predict(app, "two", inputs={"x": 1})[0] == 400


def test_a_shape_that_the_graph_refuses_is_a_400_that_says_both(app, tmp_path):
    class Square(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, "x")])
        def call(self, x):
            return {"y": tf.matmul(x, tf.eye(2))}

    module = Square()
    signatures = {"serving_default": module.call}
    tf.saved_model.save(module, tmp_path / "square/1", signatures=signatures)
    square = app_of(tmp_path / "square")
    status, _, answer = ask(square, "/v1/models/square:predict", {"inputs": [[1, 2]]})
    assert (status, answer) == (200, {"outputs": [[1.0, 2.0]]})
    for wrong in ([1, 2], [[1, 2, 3]], 1, [[[1, 2]]] * 3 + [[[1]]]):
        status, _, answer = ask(square, "/v1/models/square:predict", {"inputs": wrong})
        assert status == 400, answer


# Paths: kPredictionApiGegex, kModelStatusApiRegex, kHTTPRestApiHandlerPathRegex

BODY = {"instances": [1.0]}


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", V1, 200),
        ("GET", "/V1/MODELS/cases", 200),
        ("GET", "/v1/models/CASES", 404),
        ("GET", f"{V1}/versions/123", 200),
        ("GET", f"{V1}/versions/{'0' * 30}123", 200),  # SimpleAtoi
        ("POST", f"{V1}/versions/{'0' * 30}123:predict", 200),
        ("GET", f"{V1}/versions/0", 404),
        ("GET", f"{V1}/versions/{2**63 - 1}", 404),
        ("GET", f"{V1}/versions/{2**63}", 400),
        ("POST", f"{V1}/versions/{2**64 - 1}:regress", 400),
        ("GET", f"{V1}/versions/-1", 400),
        ("GET", f"{V1}/versions/1x", 400),
        ("POST", f"{V1}/versions/HELLO:predict", 400),
        ("GET", f"{V1}/versions/", 400),
        ("GET", f"{V1}/version/123", 400),
        ("POST", f"{V1}/version/50:predict", 400),
        ("POST", f"{V1}/label/stable:predict", 400),
        ("POST", f"{V1}/versions/123/labels/stable:predict", 400),
        ("GET", f"{V1}/metadata", 200),
        ("GET", f"{V1}/labels/stable/metadata", 200),
        ("GET", f"{V1}/", 400),
        ("GET", "/v1/models", 400),
        ("GET", "/v1/models/", 400),
        ("GET", "/v1/models/versions/5", 400),
        ("GET", "/v1/models/debug/model_name", 400),
        ("POST", "/v1/models", 400),
        ("POST", V1, 400),
        ("POST", f"{V1}/metadata", 400),
        ("GET", f"{V1}:predict", 400),
        ("POST", f"{V1}:predict", 200),
        ("POST", "/V1/Models/cases/Versions/123:predict", 200),
        ("POST", f"{V1}:PREDICT", 400),  # dispatched by the method's exact name
        ("POST", f"{V1}:Predict", 400),
        ("POST", f"{V1}:predictx", 400),
        ("POST", f"{V1}:explain", 400),
        ("POST", f"{V1}99:predict", 404),
        ("POST", "/v1/models/none/versions/50:predict", 404),
        # uri_path of evhttp_request.cc holds the query
        ("GET", f"{V1}?x=1", 404),
        ("GET", f"{V1}/versions/123?x=1", 400),
        ("GET", f"{V1}/metadata?x", 400),
        ("POST", f"{V1}:predict?x=1", 400),
        ("GET", "/v1/models/c%61ses", 200),  # DecodeArg
        ("POST", "/v1/models/c%61ses:predict", 200),
        ("GET", "/v1/models/cases%2F", 404),
        ("GET", "/v1/elsewhere", 400),
        ("GET", "/v1/", 400),
        ("GET", "/v1", 404),
        ("GET", "/elsewhere", 404),
        ("POST", "/elsewhere", 404),
        ("GET", "/v2/models/cases", 404),
        ("GET", "/x/v1/models/cases", 404),
        ("GET", "//v1/models/cases", 404),
        ("PUT", V1, 400),
        ("DELETE", f"{V1}:predict", 400),
        ("PATCH", f"{V1}:predict", 400),
        ("HEAD", V1, 400),
        ("PUT", "/elsewhere", 404),
    ],
)
def test_paths(app, verb, path, status):
    body = BODY if verb == "POST" else None
    found, headers, answer = ask(app, path, body, verb)
    assert found == status, answer
    assert headers["content-type"] == "application/json"
    if status != 200:
        assert list(answer) == ["error"]


def test_metadata_in_capitals_is_a_status(app):
    """The pattern ignores case, the comparison behind it does not."""
    for path in (f"{V1}/METADATA", f"{V1}/versions/123/Metadata"):
        assert ask(app, path)[2] == ask(app, V1)[2]


def test_a_parse_error_comes_before_the_model(app):
    """FillClassificationRequestFromJson and FillPredictRequestFromJson."""
    other = "/v1/models/other"
    assert ask(app, f"{other}:predict", "{")[0] == 400
    assert ask(app, f"{other}:predict", {"signature_name": 5})[0] == 400
    assert ask(app, f"{other}:predict", {})[0] == 404
    assert ask(app, f"{other}:classify", {})[0] == 400
    assert ask(app, f"{other}:regress", {"examples": [{"x": None}]})[0] == 400
    assert ask(app, f"{other}:regress", {"examples": [{}]})[0] == 404
    assert ask(app, f"{V1}/labels/none:predict", BODY)[0] == 400


def test_preflight_requests(app, cases):
    """RestApiRequestDispatcher::ProcessRequest, AddCORSHeaders."""
    origin = [("Origin", "http://a.example")]
    asked = [*origin, ("Access-Control-Request-Method", "POST")]
    allow = "access-control-allow-origin"
    for path in (V1, f"{V1}:predict", "/v1/elsewhere"):
        status, headers, _ = ask(app, path, verb="OPTIONS", headers=origin)
        assert status == 200
        assert allow not in headers
        assert ask(app, path, verb="OPTIONS")[0] == 400
        assert ask(app, path, verb="OPTIONS", headers=[("Origin", "a")])[0] == 400
    assert ask(app, "/elsewhere", verb="OPTIONS", headers=origin)[0] == 404
    open_to_all = app_of(cases, origins=["*"])
    for headers in (
        asked,
        [*asked, ("Access-Control-Request-Headers", "content-type")],
    ):
        status, found, _ = ask(open_to_all, f"{V1}:predict", None, "OPTIONS", headers)
        assert status == 200
        assert found[allow] == "*"
    status, found, _ = ask(open_to_all, f"{V1}:predict", BODY, headers=origin)
    assert (status, found[allow]) == (200, "*")


# Bodies


def test_bodies_may_be_compressed(app, cases):
    """ReadRequestGzipBytes of evhttp_request.cc."""
    packed, headers = (
        gzip.compress(json.dumps(BODY).encode()),
        [("Content-Encoding", "gzip")],
    )
    status, _, answer = ask(app, f"{V1}:predict", packed, headers=headers)
    assert (status, answer) == (200, {"predictions": [2.5]})
    assert ask(app, f"{V1}:predict", packed)[0] == 400
    assert ask(app, f"{V1}:predict", packed[:-12], headers=headers)[0] == 400
    assert ask(app, f"{V1}:predict", b"{}", headers=headers)[0] == 400
    bomb = gzip.compress(b" " * 2_000_000)
    small = app_of(cases, Limits(body_bytes=1_000_000))
    assert ask(small, f"{V1}:predict", bomb, headers=headers)[0] == 413


@pytest.mark.parametrize(
    "body",
    [
        '{"inputs": ' + "[" * 65 + "1" + "]" * 65 + "}",
        '{"inputs": ' + "[" * 300_000 + "]" * 300_000 + "}",
        b'{"inputs": ["\xff"], "signature_name": "echo"}',
        r'{"inputs": ["\ud800"], "signature_name": "echo"}',
        b'{"signature_name": "\xff", "inputs": [1]}',
        r'{"signature_name": "\udfff", "inputs": [1]}',
        '{"inputs": {"b64": "AA=="}}',
        '{"inputs": [' + "1" * 400 + "]}",
        '{"inputs": [' + "1" * 5_000 + "]}",
    ],
)
def test_hostile_bodies_are_a_400(app, body):
    assert ask(app, f"{V1}:predict", body)[0] == 400


def test_hostile_examples_are_a_400(app):
    for feature in (r'"\udc00": 1', '"x": [[1]]', '"x": {}', '"x": [1e999]'):
        body = f'{{"signature_name": "both", "examples": [{{{feature}}}]}}'
        assert ask(app, f"{V1}:classify", body)[0] == 400


def test_a_dimension_per_level(app):
    body = '{"inputs": ' + "[" * 64 + "2" + "]" * 64 + "}"
    status, _, answer = ask(app, f"{V1}:predict", body)
    assert status == 200
    assert json.dumps(answer) == '{"outputs": ' + "[" * 64 + "3.0" + "]" * 64 + "}"


def test_an_answer_has_a_most_of_values(cases):
    small = app_of(cases, Limits(body_bytes=800))
    body = {"inputs": [1] * 100}
    assert ask(small, f"{V1}:predict", body)[0] == 200
    for body in ({"inputs": [1] * 101}, {"instances": [[1] * 51] * 2}):
        status, _, answer = ask(small, f"{V1}:predict", body)
        assert (status, "more than 100 values" in answer["error"]) == (413, True)


def test_all_bodies_together_are_bounded(cases):
    """Half-sent bodies may hold eight times the largest one; then 503."""
    app = app_of(cases, Limits(body_bytes=100_000, seconds=2))
    with running(app) as port:
        head = f"POST {V1}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(9)]
        for client in slow:
            client.sendall(head.encode() + b" " * 99_000)
        answers = [client.recv(100)[:12] for client in slow]
        for client in slow:
            client.close()
    assert sorted(answers) == [b"HTTP/1.1 408"] * 8 + [b"HTTP/1.1 503"]


def test_a_body_counts_until_nothing_uses_it(tmp_path):
    """Also after a 504; then its memory is free, and other bodies are accepted."""

    class Waiting(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec(None, tf.string, "x")])
        def answer(self, x):
            def wait(x):
                assert released.wait(30)
                return x

            return {"y": tf.py_function(wait, [x], tf.string)}

    released = threading.Event()
    directory = tmp_path / "cases"
    module = Waiting()
    tf.saved_model.save(module, directory / "1", signatures=module.answer)
    most = 1_000_000
    app = app_of(directory, Limits(body_bytes=most, seconds=2))
    body = {"inputs": "x", "context": "y" * (most - 1000)}
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    with running(app) as port:

        def send(_):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("POST", f"{V1}:predict", json.dumps(body))
            status = connection.getresponse().status
            connection.close()
            return status

        try:
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(send, range(8))) == [504] * 8
            assert send(0) == 503
        finally:
            released.set()
        deadline = time.monotonic() + 20
        while (status := send(0)) == 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert status == 200
        while tracemalloc.get_traced_memory()[0] > before + most:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    tracemalloc.stop()


def test_nothing_is_computed_for_an_answer_that_nobody_waits_for(tmp_path):
    computed = []

    def run(inputs):
        computed.append(len(inputs["x"]))
        time.sleep(0.05)
        return inputs

    queue = BatchQueue(run, Batching(rows=2, combine=False))
    asked = Workers(Limits(seconds=0.2)).run(queue, {"x": np.zeros(2000)})
    with pytest.raises(ServingError, match="No answer"):
        asyncio.run(asked)
    time.sleep(0.2)
    assert 1 <= len(computed) <= 6
    assert set(computed) == {2}


# Connections


class running:
    """An application behind a socket; `with` gives its port."""

    def __init__(self, app, **options):
        self.listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", log_level="error", **options)
        self.server = uvicorn.Server(config)
        sockets = [self.listening]
        self.thread = threading.Thread(target=self.server.run, args=(sockets,))

    def __enter__(self):
        self.thread.start()
        return self.listening.getsockname()[1]

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()
        self.listening.close()


def closed_after(client) -> float:
    """Seconds until the server closes a connection."""
    started = time.monotonic()
    client.settimeout(10)
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - started


def test_connections_wait_for_heads_and_not_for_ever(app):
    whole = b"GET /v1/models/cases HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(app, http=Protocol, timeout_keep_alive=1) as port:

        def connect(sent: bytes = b""):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(sent)
            return client

        kept = connect(whole)
        for _ in range(3):  # a pause that is shorter is waited for
            answer = http.client.HTTPResponse(kept)
            answer.begin()
            assert answer.status == 200
            answer.read()
            time.sleep(0.6)
            kept.sendall(whole[:20])
            time.sleep(0.1)
            kept.sendall(whole[20:])
        clients = [
            connect(),
            connect(whole[:-2]),
            connect(whole + whole[:-2]),
            connect(whole + b"\r\n"),
            kept,
        ]
        for client in clients:
            assert closed_after(client) < 3
            client.close()
        chunked = whole.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        post = chunked.replace(b"GET", b"POST").replace(b"cases ", b"cases:predict ")
        for head, part in (
            (whole[:-2] + b"X: ", b"x"),
            (b"", b"\r\n"),
            (whole, b"\r\n"),
            (chunked + b"1\r\n{\r\n0\r\n", b"X-Trailer: x\r\n"),
            (post + b"1\r\n{\r\n0\r\n", b"X-Trailer: x\r\n"),
            (post + b"1\r\n{\r\n0\r\nX-Trailer: ", b"x"),
            (post + b"1;extension=", b"x"),
        ):
            endless = connect(head)
            with pytest.raises(ConnectionError):
                endless.sendall(part * (64_000_000 // len(part)))
            endless.close()
        assert ask(app, V1)[0] == 200


def test_many_connections_cost_nobody_an_answer(app):
    """Half-open ones, such with half a head, and such that are reset."""
    with running(app, http=Protocol) as port:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
        for client in clients[::2]:
            client.sendall(b"POST /v1/models/cases:predict HTTP/1.1\r\nContent-Len")
        for client in clients[::3]:
            reset = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.close()
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        asking.request("POST", f"{V1}:predict", json.dumps(BODY))
        assert asking.getresponse().status == 200
        for client in (asking, *clients):
            client.close()


def test_an_answer_that_is_not_read_is_dropped():
    """Slow readers are waited for; the others cost the answer's memory for a second."""
    answer = b"x" * 32_000_000

    async def large(scope, receive, send):
        head = {"type": "http.response.start", "status": 200}
        await send(head | {"headers": [(b"content-length", b"%d" % len(answer))]})
        await send({"type": "http.response.body", "body": answer})

    with running(large, http=Protocol, timeout_keep_alive=1) as port:

        def connect():
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return client

        slow, silent = connect(), connect()
        read = 0
        for _ in range(8):
            time.sleep(0.4)
            read += len(slow.recv(4_000_000, socket.MSG_WAITALL))
        while part := slow.recv(1_000_000):
            read += len(part)
        assert read > len(answer)
        read = 0
        with contextlib.suppress(ConnectionError):
            while part := silent.recv(1_000_000):
                read += len(part)
        assert read < len(answer)
        slow.close()
        silent.close()


# Examples


def tagged(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer message."""
    size, varint = len(content), b""
    while size > 127:
        varint += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + varint + bytes([size]) + content


def example_of(*features: bytes) -> bytes:
    """A serialized example, whose features all have the name `image_bytes`."""
    entries = (tagged(1, b"image_bytes") + tagged(2, one) for one in features)
    return tagged(1, b"".join(tagged(1, entry) for entry in entries))


def test_examples_are_decoded_as_they_were_examined(cases, tmp_path):
    """A feature twice, two alternatives, two lists: no large picture passes."""

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "inputs")])
        def classify(self, inputs):
            feature = {"image_bytes": tf.io.FixedLenFeature((), tf.string)}
            files = tf.io.parse_example(inputs, feature)["image_bytes"]
            shapes = tf.map_fn(
                lambda file: tf.shape(tf.io.decode_png(file, 3)),
                files,
                fn_output_signature=tf.TensorSpec((3,), tf.int32),
            )
            return {"scores": tf.cast(shapes[:, :2], tf.float32)}

    module = Model()
    directory = tmp_path / "pictures"
    signatures = {"serving_default": module.classify}
    tf.saved_model.save(module, directory / "1", signatures=signatures)
    app = app_of(directory, Limits(picture_pixels=100))

    def png(side: int) -> bytes:
        return tf.io.encode_png(np.zeros((side, side, 3), "uint8")).numpy()

    def of(side: int) -> bytes:
        return tagged(1, tagged(1, png(side)))

    integers = tagged(3, tagged(1, b"\x01"))
    for features, expected in (
        ([of(4)], 200),
        ([of(40)], 413),
        ([of(40), of(4)], None),
        ([of(4), of(40)], None),
        ([of(4) + of(40)], None),
        ([of(40) + of(4)], None),
        ([of(40) + integers], None),
        ([integers + of(40)], None),
        ([integers + of(4)], None),
        ([of(4) + integers + of(40)], None),
        ([of(4), integers], None),
    ):
        serialized = base64.b64encode(example_of(*features)).decode()
        status, _, answer = ask(
            app, "/v1/models/pictures:predict", {"inputs": [{"b64": serialized}]}
        )
        assert status == expected or (expected is None and status in (200, 400, 413))
        if status == 200:  # only the small one was decoded
            assert answer == {"outputs": [[4.0, 4.0]]}
    wrong_text = example_of(of(4)).replace(b"image_bytes", b"image_byte\xff")
    for serialized in (b"words", wrong_text, example_of(of(4))[:-3]):
        body = {"inputs": [{"b64": base64.b64encode(serialized).decode()}]}
        assert ask(app, "/v1/models/pictures:predict", body)[0] == 400
