"""TF Serving's JSON, rule by rule.

Sources, in the repository tensorflow/serving: "api_rest.md" is
tensorflow_serving/g3doc/api_rest.md, the documentation of the REST API;
"json_tensor.cc" is tensorflow_serving/util/json_tensor.cc.
"""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf

from keras_inception.server import json_bodies
from keras_inception.server.limits import ServingError

ANY = None  # any shape
ONE = {"x": tf.TensorSpec(ANY, tf.string)}
NAMED = {
    "tag": tf.TensorSpec((None,), tf.string),
    "signal": tf.TensorSpec((None, 5), "int64"),
    "sensor": tf.TensorSpec((None, 2, 2), "int64"),
}


def ask(body: str | bytes, inputs):
    request = json_bodies.parse(body.encode() if isinstance(body, str) else body)
    return json_bodies.tensors(request, inputs)


def refused(body: str | bytes, inputs=None) -> str:
    with pytest.raises(ServingError) as caught:
        ask(body, inputs or {"x": tf.TensorSpec(ANY, "float32")})
    assert caught.value.status == 400
    return str(caught.value)


# The examples of api_rest.md


def test_a_list_of_scalars_in_row_format():
    tensors, rows = ask('{"instances": [ "foo", "bar", "baz" ]}', ONE)
    assert rows
    assert tensors["x"].tolist() == [b"foo", b"bar", b"baz"]


def test_a_list_of_tensors_in_row_format():
    tensors, _ = ask(
        '{"instances": [ [[1, 2]], [[3, 4]] ]}', {"x": tf.TensorSpec(ANY, "int32")}
    )
    assert tensors["x"].tolist() == [[[1, 2]], [[3, 4]]]
    assert tensors["x"].dtype == "int32"


# As in api_rest.md, whose second "signal" closes a bracket too many
ROWS = """{"instances": [
   {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
   {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]}
]}"""
COLUMNS = """{"inputs": {
   "tag": ["foo", "bar"],
   "signal": [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]],
   "sensor": [[[1, 2], [3, 4]], [[4, 5], [6, 8]]]
}}"""


def test_named_inputs_in_both_formats_are_the_same():
    by_row, rows = ask(ROWS, NAMED)
    by_column, columns = ask(COLUMNS, NAMED)
    assert rows
    assert not columns
    for name, dtype in (("tag", "object"), ("signal", "int64"), ("sensor", "int64")):
        np.testing.assert_array_equal(by_row[name], by_column[name])
        assert by_row[name].dtype == dtype
    assert by_row["sensor"].shape == (2, 2, 2)
    assert by_row["tag"].tolist() == [b"foo", b"bar"]


def test_binary_values_in_examples():
    request = json_bodies.parse(
        b"""{"signature_name": "classify_objects", "examples": [
        {"image": { "b64": "aW1hZ2UgYnl0ZXM=" }, "caption": "seaside"},
        {"image": { "b64": "YXdlc29tZSBpbWFnZSBieXRlcw==" }, "caption": "mountains"}
        ]}"""
    )
    assert request["signature_name"] == "classify_objects"
    assert json_bodies.examples(request) == [
        {"image": [b"image bytes"], "caption": [b"seaside"]},
        {"image": [b"awesome image bytes"], "caption": [b"mountains"]},
    ]


def test_numbers_that_json_does_not_know():
    """ "JSON conformance"; neither server accepts the "Nan" of its example."""
    body = '{"instances": [1.0, -3.14, NaN, Infinity, -Infinity, 2e3]}'
    tensors, _ = ask(body, {"x": tf.TensorSpec(ANY, "float32")})
    expected = np.array([1, -3.14, np.nan, np.inf, -np.inf, 2000], "float32")
    np.testing.assert_array_equal(tensors["x"], expected)
    answer = json_bodies.predictions({"y": expected}, True)
    assert answer == '{"predictions": [1.0, -3.14, NaN, Infinity, -Infinity, 2000.0]}'


def test_half_plus_three():
    tensors, rows = ask(
        '{"instances": [1.0,2.0,5.0]}', {"x": tf.TensorSpec(ANY, "float32")}
    )
    outputs = {"y": tensors["x"] / 2 + 3}
    assert json.loads(json_bodies.predictions(outputs, rows)) == {
        "predictions": [3.5, 4.0, 5.5]
    }


# json_tensor.cc, requests


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "The document is empty"),
        ("{", "JSON Parse error"),
        (b"\xff\xfe{}", "JSON Parse error"),
        ("[" * 100_000, "JSON Parse error"),
        ('{"instances": [' + "9" * 10_000 + "]}", "JSON Parse error"),
        ("[]", "Is not object"),
        ('{"signature_name": 5, "instances": [1]}', "must be a string"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"inputs": [1], "instances": [1]}', "only one of 'inputs' or 'instances'"),
        ('{"instances": 1}', "'instances' to be an list/array"),
        ('{"instances": {"x": 1}}', "'instances' to be an list/array"),
        ('{"instances": []}', "No values in 'instances'"),
        ('{"instances": [[1, 2], [3]]}', "unexpected size: 1 at level: 1 expected"),
        ('{"instances": [[1], 2]}', "found at incorrect level"),
        ('{"instances": [1, [2]]}', "found at incorrect level"),
        ('{"instances": [{"y": 1}]}', "keys must be equal to: x"),
        ('{"instances": [{"x": 1, "y": 1}]}', "keys must be equal to: x"),
        ('{"instances": [{"x": 1}, 1]}', "Expecting object but got list or value"),
        ('{"instances": [1, {"x": 1}]}', "Expecting object but got list or value"),
        ('{"inputs": {"y": [1]}}', "Missing named input: x"),
    ],
)
def test_malformed_requests(body, message):
    assert message in refused(body)


def test_several_inputs_need_names():
    assert "list of objects" in refused('{"instances": [1, 2]}', NAMED)
    assert "expecting an object" in refused('{"inputs": [1, 2]}', NAMED)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", '"1"'),
        ("float32", "true"),
        ("float32", "null"),
        ("float32", '{"b64": "AA=="}'),
        ("float32", "[1.5, true]"),
        ("int32", "1.0"),
        ("int64", "true"),
        ("uint8", "0.5"),
        ("bool", "1"),
        ("string", "1"),
        ("string", "null"),
    ],
)
def test_types_are_never_converted(dtype, value):
    """AddValueToTensor: integers are JSON integers, also not 1.0; strings strings."""
    message = refused(
        f'{{"inputs": {{"x": {value}}}}}', {"x": tf.TensorSpec(ANY, dtype)}
    )
    assert "not of expected type" in message or "base64" in message


@pytest.mark.parametrize(
    ("dtype", "value", "fits"),
    [
        ("float32", "16777215", True),
        ("float32", "-16777215", True),
        ("float32", "16777216", False),  # IsLosslessDecimal: 2**24 - 1 at most
        ("float32", "16777216.0", True),
        ("float32", "3.4e38", True),
        ("float32", "3.5e38", False),
        ("float64", "9007199254740991", True),
        ("float64", "9007199254740992", False),
        ("int32", "2147483647", True),
        ("int32", "2147483648", False),
        ("uint8", "255", True),
        ("uint8", "256", False),  # TF Serving makes it 0
        ("uint8", "-1", False),
    ],
)
def test_numbers_keep_their_value_or_are_refused(dtype, value, fits):
    body, inputs = f'{{"instances": [{value}]}}', {"x": tf.TensorSpec(ANY, dtype)}
    if fits:
        tensors, _ = ask(body, inputs)
        assert tensors["x"].dtype == dtype
        assert tensors["x"][0] == float(value)
    else:
        assert "without loss of precision" in refused(body, inputs)


def test_base64_is_an_object_with_that_key_alone():
    """IsValBase64Object, JsonDecodeBase64Object."""
    value = b"\xfb\xff\x00 binary"
    encoded = base64.b64encode(value).decode()
    for body in (
        f'{{"instances": [{{"b64": "{encoded}"}}]}}',
        f'{{"instances": [{{"x": {{"b64": "{encoded}"}}}}]}}',
        f'{{"inputs": [{{"b64": "{encoded}"}}]}}',
        f'{{"inputs": {{"x": [{{"b64": "{encoded}"}}]}}}}',
        # absl::Base64Unescape passes over white space and does without padding
        f'{{"inputs": [{{"b64": "{encoded[:5]}\\n {encoded[5:].rstrip("=")}"}}]}}',
    ):
        tensors, _ = ask(body, ONE)
        assert tensors["x"].tolist() == [value]
    scalar, _ = ask(f'{{"inputs": {{"b64": "{encoded}"}}}}', ONE)
    assert scalar["x"].item() == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"b64": "a-_b"}', "standard alphabet"),  # the one for URLs is another
        ('{"b64": "a"}', "Unable to base64 decode"),
        ('{"b64": "\\u00e4\\u00f6aa"}', "Unable to base64 decode"),
        ('{"b64": 5}', "keys must be equal to"),
        ('{"b64": "AA==", "more": 1}', "keys must be equal to"),
        ('{"x": {"b64": 5}}', "not formatted correctly for base64"),
        ('"\\ud800"', "not valid Unicode"),
    ],
)
def test_wrong_base64(value, message):
    assert message in refused(f'{{"instances": [{value}]}}', ONE)


def test_a_wrong_shape_says_both():
    inputs = {"images": tf.TensorSpec((None, 2, 2), "float32")}
    message = refused('{"instances": [[1, 2, 3]]}', inputs)
    assert message == "images has shape [1,3]; the signature takes [?,2,2]"


def test_an_empty_column_is_an_empty_batch():
    tensors, _ = ask('{"inputs": []}', ONE)
    assert tensors["x"].shape == (0,)


# json_tensor.cc, classify requests


def classify(text: str):
    return json_bodies.examples(json_bodies.parse(text.encode()))


def test_features_are_bytes_floats_or_integers():
    """AddValueToFeature; true and false are 1 and 0."""
    text = '{"examples": [{"a": [1, true], "b": 0.5, "c": ["x", {"b64": "eQ=="}]}]}'
    assert classify(text) == [{"a": [1, 1], "b": [0.5], "c": [b"x", b"y"]}]


def test_context_goes_into_every_example():
    text = '{"context": {"c": 5}, "examples": [{"a": 1}, {"a": 2}]}'
    assert classify(text) == [{"c": [5], "a": [1]}, {"c": [5], "a": [2]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "key 'examples' is expected"),
        ('{"examples": {}}', "an list/array"),
        ('{"examples": []}', "is an empty array"),
        ('{"examples": [5]}', "Example must be JSON object but got JSON Number"),
        ('{"examples": [{"a": [1, 0.5]}]}', "Unexpected element type in feature: a"),
        ('{"examples": [{"a": [1, "x"]}]}', "Unexpected element type in feature: a"),
        ('{"examples": [{"a": null}]}', "unexpected JSON type: Null"),
        ('{"examples": [{"a": [[1]]}]}', "unexpected JSON type: Array"),
        ('{"examples": [{"a": {"b": 1}}]}', "unexpected JSON type: Object"),
        ('{"examples": [{"a": 18446744073709551615}]}', "loss of precision"),
        ('{"context": 1, "examples": [{}]}', "Example must be JSON object"),
    ],
)
def test_malformed_examples(text, message):
    with pytest.raises(ServingError) as caught:
        classify(text)
    assert message in str(caught.value)


# json_tensor.cc, answers

TWO = {
    "scores": np.array([[0.2, 0.1], [1, 0]], "float32"),
    "classes": np.array([[b"a", b"b"], [b"c", b"d"]], object),
}


def test_several_outputs_go_by_name():
    """MakeRowFormatJsonFromTensors, MakeColumnarFormatJsonFromTensors."""
    assert json.loads(json_bodies.predictions(TWO, True)) == {
        "predictions": [
            {"classes": ["a", "b"], "scores": [0.2, 0.1]},
            {"classes": ["c", "d"], "scores": [1.0, 0.0]},
        ]
    }
    assert json.loads(json_bodies.predictions(TWO, False)) == {
        "outputs": {
            "classes": [["a", "b"], ["c", "d"]],
            "scores": [[0.2, 0.1], [1.0, 0.0]],
        }
    }


def test_one_output_goes_without_its_name():
    outputs = {"main": TWO["scores"]}
    for rows, key in ((True, "predictions"), (False, "outputs")):
        answer = json_bodies.predictions(outputs, rows)
        # WriteDecimal: 0.2 has no noise, and whole numbers get .0
        assert answer == f'{{"{key}": [[0.2, 0.1], [1.0, 0.0]]}}'


def test_floats_survive_the_way_there_and_back():
    values = np.random.default_rng(0).uniform(-1, 1, 1000).astype("float32")
    values = np.concatenate([values, values * 1e-30, values * 1e30]).astype("float32")
    answer = json.loads(json_bodies.predictions({"y": values}, False))
    np.testing.assert_array_equal(np.array(answer["outputs"], "float32"), values)


def test_only_outputs_called_bytes_are_base64():
    """IsNamedTensorBytes."""
    value = np.array([b"\xff\x00"], object)
    answer = json.loads(json_bodies.predictions({"image_bytes": value}, True))
    assert answer == {"predictions": [{"b64": "/wA="}]}
    answer = json.loads(json_bodies.predictions({"label": value}, True))
    assert answer == {"predictions": ["�\x00"]}


def test_rows_need_equal_batches():
    outputs = {"labels": np.array([b"a", b"b", b"c"], object), "y": np.zeros((2, 1))}
    with pytest.raises(ServingError, match="inconsistent batch sizes"):
        json_bodies.predictions(outputs, True)
    assert "labels" in json.loads(json_bodies.predictions(outputs, False))["outputs"]


def test_classifications_are_pairs_under_results():
    """MakeJsonFromClassificationResult; api_rest.md calls the key "result"."""
    answer = json_bodies.classifications(TWO["classes"], TWO["scores"])
    assert json.loads(answer) == {
        "results": [[["a", 0.2], ["b", 0.1]], [["c", 1.0], ["d", 0.0]]]
    }
