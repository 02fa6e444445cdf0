"""TF Serving's JSON, rule by rule.

Sources, in the repository tensorflow/serving: "api_rest.md" is
tensorflow_serving/g3doc/api_rest.md, the documentation of the REST API;
"json_tensor.cc" is tensorflow_serving/util/json_tensor.cc.
"""

import base64
import json
import time

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


def features(serialized: bytes) -> dict[str, list]:
    """The features of a serialized example by name."""
    example = tf.train.Example.FromString(serialized)
    found = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found[name] = list(getattr(feature, kind).value) if kind else None
    return found


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
    assert list(map(features, json_bodies.examples(request))) == [
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


# json_tensor.cc:293, AddValueToTensor; FloatTensorWithPrecisionLoss and
# FloatTensorThatExceedsMaxReturnsInf of json_tensor_test.cc; api_rest.md:333
@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", "16777217", 16777216),
        ("float32", "1435774380", 1435774336),
        ("float32", "-16777217.0", -16777216),
        ("float32", "123456789012345678901234567890", 1.2345679e29),
        ("float32", "1e39", np.inf),
        ("float32", "-1.7e308", -np.inf),
        ("float32", "2.2e-308", 0),
        ("float32", "1" + 40 * "0", np.inf),
        ("float64", "9007199254740993", 9007199254740992),
        ("float64", "1" + 300 * "0", 1e300),
        ("float64", "1e-400", 0),
        ("int32", "2147483647", 2147483647),
        ("int64", "-9223372036854775808", -(2**63)),
        ("uint64", "18446744073709551615", 2**64 - 1),
        ("uint8", "255", 255),
        ("int8", "-0", 0),
    ],
)
def test_numbers_are_rounded_to_the_type(dtype, value, expected):
    body, inputs = f'{{"instances": [{value}]}}', {"x": tf.TensorSpec(ANY, dtype)}
    tensors, _ = ask(body, inputs)
    assert tensors["x"].dtype == dtype
    assert tensors["x"][0] == np.array(expected, dtype)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", "1e400"),  # RapidJSON: kParseErrorNumberTooBig
        ("float32", "-1e400"),
        ("float64", "1e309"),
        ("float64", "1" + 400 * "0"),
        ("float64", "[Infinity, 1e999]"),
        ("int32", "2147483648"),  # IsInt
        ("int64", "9223372036854775808"),  # IsInt64
        ("uint32", "-1"),  # IsUint
        ("uint64", "18446744073709551616"),  # IsUint64
        ("uint8", "256"),  # TF Serving makes it 0
        ("uint8", "-1"),
        ("int16", "32768"),
        ("int64", "NaN"),
        ("int64", "1e2"),
    ],
)
def test_numbers_that_the_type_cannot_hold(dtype, value):
    message = refused(f'{{"instances": [{value}]}}', {"x": tf.TensorSpec(ANY, dtype)})
    assert "expected type" in message or "too big" in message


# ParseJson, json_tensor.cc:473-502, and ParseNumber of RapidJSON
@pytest.mark.parametrize(
    ("token", "expected"),
    [
        *(("NaN", np.nan), ("-NaN", np.nan), ("Inf", np.inf), ("-Inf", -np.inf)),
        *(("Infinity", np.inf), ("-Infinity", -np.inf), ("1E2", 100), ("-0", 0)),
        *(("nan", None), ("inf", None), ("+1", None), ("Infinit", None), ("01", None)),
        *(("--Inf", None), ("1Inf", None), ("1.", None), (".5", None), ("+Inf", None)),
        *(("-", None), ("-Na", None), ("InfInf", None), ("0x10", None), ("1e", None)),
    ],
)
def test_tokens_of_numbers(token, expected):
    body, inputs = f'{{"instances": [{token}]}}', {"x": tf.TensorSpec(ANY, "float32")}
    if expected is None:
        assert "JSON Parse error" in refused(body, inputs)
    else:
        np.testing.assert_equal(ask(body, inputs)[0]["x"][0], np.float32(expected))


def test_text_that_names_a_constant_stays_as_it_is():
    body = r'{"instances": ["-NaN", "Inf\\", "a\"Inf"], "more": -NaN}'
    tensors, _ = ask(body, ONE)
    assert tensors["x"].tolist() == [b"-NaN", b"Inf\\", b'a"Inf']


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"instances": [1]} trailing', [1]),  # kParseStopWhenDoneFlag
        ('{"instances": [1]}}', [1]),
        ('{"instances": [1]}\0', [1]),
        ('\ufeff \t\r\n{"instances": [1]}', [1]),  # EncodedInputStream
        # FindMember: the first of equal keys
        ('{"instances": [1], "instances": [2, 3]}', [1]),
        ('{"instances": [{"x": 1, "x": 2}]}', [1]),
        ('{"inputs": {"x": [1], "x": [2]}}', [1]),
        ('{"inputs": {"x": [1], "y": "ignored"}}', [1]),
        ('{"instances": [1], "signature_name": "", "signature_name": 5}', [1]),
        # DeeplyNestedWellFormed
        ('{"instances": [1], "nested": ' + "[" * 200_000 + "]" * 200_000 + "}", [1]),
        ('{"nested": ' + '[{"a":' * 5_000 + "1" + "}]" * 5_000 + ',"inputs":[1]}', [1]),
        ('{"inputs": [1], "b": ["[[", ' + "[" * 2_000 + "]" * 2_000 + ', "]"]}', [1]),
    ],
)
def test_text_around_and_beside_the_request(body, expected):
    tensors, _ = ask(body, {"x": tf.TensorSpec(ANY, "int32")})
    assert tensors["x"].tolist() == expected


def deep(count: int) -> str:
    return "[" * count + "1" + "]" * count


HALF_A_PAIR = "JSON Parse error: Half of a surrogate pair"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"instances": [1]}'.encode("utf-16"), "JSON Parse error"),
        ('{"instances": [1]}'.encode("utf-32-le"), "JSON Parse error"),
        (b'{"instances": ["\xff"]}', "JSON Parse error"),
        (b'{"instances": ["\xed\xa0\x80"]}', "JSON Parse error"),  # CESU-8
        (b'{"\xc3": 1, "instances": [1]}', "JSON Parse error"),
        (r'{"instances": ["\ud800"]}', HALF_A_PAIR),
        (r'{"instances": ["\udc00\ud800"]}', HALF_A_PAIR),
        (r'{"instances": ["\ud800\u0041"]}', HALF_A_PAIR),
        (r'{"\uDFFF": 1, "instances": [1]}', HALF_A_PAIR),
        (r'{"signature_name": "\ud83d", "instances": [1]}', HALF_A_PAIR),
        ('{"instances": ["a\nb"]}', "JSON Parse error"),
        (f'{{"instances": {deep(66)}}}', "at most 64 dimensions"),
        (f'{{"inputs": {deep(65)}}}', "at most 64 dimensions"),
        (f'{{"inputs": {deep(90_000)}}}', "at most 64 dimensions"),
        ('{"inputs": ' + '{"a":' * 9_000 + "1" + "}" * 9_001, "Missing named input"),
        ('{"signature_name": ' + "[" * 9_000 + "]" * 9_000 + "}", "must be a string"),
        ('{"signature_name": null, "instances": [1]}', "must be a string"),
        ('{"instances": [1], "inputs": [1]}', "only one of"),
        ('{"instances": null}', "to be an list/array"),
        ('{"Instances": [1]}', "Missing 'inputs' or 'instances'"),
        ('{"instances": [[], [[]]]}', "unexpected size: 1"),
        ('{"instances": [[], 1]}', "found at incorrect level"),
        ('{"instances": [{"x": 1, "x": [1]}, {}]}', "keys must be equal to: x"),
        ('{"inputs": [1', "JSON Parse error"),
        ('{"inputs": ["' + '\\"' * 50_000, "JSON Parse error"),
        ('{"inputs": [Inf, "' + '\\"' * 50_000 + "\\", "JSON Parse error"),
        ("[" * 200_000, "JSON Parse error"),
        ("5 trailing", "Is not object"),
        ('"text"', "Is not object"),
    ],
)
def test_hostile_and_malformed_text(body, message):
    started = time.monotonic()
    assert message in refused(body)
    assert time.monotonic() - started < 2


def test_whole_pairs_of_surrogates_are_text():
    tensors, _ = ask(r'{"instances": ["\ud83d\ude00 \\ud800 \u00e9"]}', ONE)
    assert tensors["x"].tolist() == ["😀 \\ud800 é".encode()]


@pytest.mark.parametrize("bracket", ["[]", "{}"])
def test_bodies_of_brackets_are_refused_before_they_are_parsed(bracket):
    """Each would take 20 times its text."""
    body = '{"inputs": [' + ",".join([bracket] * 1_000) + "]}"
    with pytest.raises(ServingError, match="more than") as caught:
        json_bodies.parse(body.encode(), 900)
    assert caught.value.status == 413


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "complex64", "uint16"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"instances": [1]}', 400),  # FillTensorMapFromInstancesList makes it a 400
        ('{"instances": [{"x": [1.5]}]}', 400),
        ('{"inputs": [1]}', 501),  # AddValueToTensor: Unimplemented, json_tensor.cc:336
        ('{"inputs": {"x": 1}}', 501),
        ('{"inputs": {"x": [null]}}', 501),
        ('{"inputs": [{"b64": "AA=="}]}', 400),  # FillTensorProto asks first
        ('{"inputs": []}', None),  # has no value to convert
        ('{"instances": [[], []]}', None),
    ],
)
def test_types_that_json_cannot_carry(dtype, body, status):
    inputs = {"x": tf.TensorSpec(ANY, dtype)}
    if status is None:
        assert ask(body, inputs)[0]["x"].dtype == inputs["x"].dtype.as_numpy_dtype
        return
    with pytest.raises(ServingError) as caught:
        ask(body, inputs)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "shape", "values"),
    [
        ('{"inputs": "text"}', (), b"text"),
        ('{"inputs": {"b64": "aGVsbG8="}}', (), b"hello"),
        ('{"inputs": {"x": {"b64": "aGVsbG8="}}}', (), b"hello"),
        ('{"instances": [{"x": "é"}]}', (1,), ["é".encode()]),
        ('{"instances": [[], []]}', (2, 0), [[], []]),
        ('{"instances": [[[]], [[]]]}', (2, 1, 0), [[[]], [[]]]),
        ('{"inputs": [[]]}', (1, 0), [[]]),
        ('{"inputs": [{"b64": ""}]}', (1,), [b""]),
    ],
)
def test_strings_of_any_shape(body, shape, values):
    tensors, _ = ask(body, ONE)
    assert tensors["x"].shape == shape
    assert tensors["x"].tolist() == values


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
        ('{"b64": "AAAA="}', "Unable to base64 decode"),  # too much padding
        ('{"b64": "AA==="}', "Unable to base64 decode"),
        ('{"b64": "AA="}', "Unable to base64 decode"),
        ('{"b64": "="}', "Unable to base64 decode"),
        ('{"b64": "AA==AA=="}', "Unable to base64 decode"),
        ('{"b64": "A\\u00a0A=="}', "Unable to base64 decode"),
        ('{"b64": "AA==", "b64": "AA=="}', "keys must be equal to"),  # MemberCount
        ('{"b64": 5}', "keys must be equal to"),
        ('{"b64": "AA==", "more": 1}', "keys must be equal to"),
        ('{"x": {"b64": 5}}', "not formatted correctly for base64"),
    ],
)
def test_wrong_base64(value, message):
    assert message in refused(f'{{"instances": [{value}]}}', ONE)


def test_shapes_are_not_compared_with_the_signature():
    """predict_util.cc:51-76 compares names and their number."""
    inputs = {"images": tf.TensorSpec((None, 2, 2), "float32")}
    tensors, _ = ask('{"instances": [[1, 2, 3]]}', inputs)
    assert tensors["images"].shape == (1, 3)


def test_a_signature_without_inputs_cannot_be_asked():
    with pytest.raises(ServingError, match="Failed to get input map"):
        ask('{"inputs": {}}', {})


def test_an_empty_column_is_an_empty_batch():
    tensors, _ = ask('{"inputs": []}', ONE)
    assert tensors["x"].shape == (0,)


# json_tensor.cc, classify requests


def classify(text: str):
    found = json_bodies.examples(json_bodies.parse(text.encode()))
    return list(map(features, found))


def test_features_are_bytes_floats_or_integers():
    """AddValueToFeature; true and false are 1 and 0."""
    text = '{"examples": [{"a": [1, true], "b": 0.5, "c": ["x", {"b64": "eQ=="}]}]}'
    assert classify(text) == [{"a": [1, 1], "b": [0.5], "c": [b"x", b"y"]}]


def test_context_goes_into_every_example():
    text = '{"context": {"c": 5}, "examples": [{"a": 1}, {"c": 2}]}'
    assert classify(text) == [{"c": [5], "a": [1]}, {"c": [2]}]


def test_features_of_unusual_numbers():
    """MakeExampleFromJsonObject: of a feature given twice the last counts."""
    text = """{"examples": [{"a": 1, "a": 2, "nan": [NaN, -Inf], "none": [],
        "long": 123456789012345678901, "low": -9223372036854775809, "big": 1e39}]}"""
    (found,) = classify(text)
    assert found["a"] == [2]
    np.testing.assert_equal(found["nan"], [np.nan, -np.inf])
    assert found["none"] is None
    assert found["long"] == [np.float32(123456789012345678901)]
    assert found["low"] == [np.float32(-(2**63))]
    assert found["big"] == [np.inf]


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
        ('{"examples": [{"a": 18446744073709551615}]}', "Only int64_t"),
        ('{"examples": [{"a": 9223372036854775808}]}', "Only int64_t"),
        ('{"examples": [{"a": 1e400}]}', "too big"),
        ('{"examples": [{"a": [1, 18446744073709551616]}]}', "Unexpected element"),
        ('{"examples": null}', "an list/array"),
        ('{"examples": [{}], "context": null}', "Example must be JSON object"),
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


def test_scalars_and_vocabularies_go_in_columns():
    """AddTensorValues, json_tensor.cc:956: no output needs a batch."""
    outputs = {
        "total": np.array(0.5, "float32"),
        "label": b"a\0",  # as a scalar tensor's numpy() returns it
        "vocabulary": np.array([b"a", b"b", b"c"], object),
        "nothing": np.empty((2, 0), "float32"),
        "no_text": np.empty((0, 2), object),
        "flags": np.array([True]),
        "wide": np.array([0.1], "float64"),
    }
    assert json.loads(json_bodies.predictions(outputs, False))["outputs"] == {
        "total": 0.5,
        "label": "a\0",
        "vocabulary": ["a", "b", "c"],
        "nothing": [[], []],
        "no_text": [],
        "flags": [True],
        "wide": [0.1],
    }
    for name in ("total", "label"):
        with pytest.raises(ServingError, match="inconsistent batch sizes"):
            json_bodies.predictions({name: outputs[name]}, True)
    with pytest.raises(ServingError, match="empty tensor map"):
        json_bodies.predictions({}, False)


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "complex64", "uint16"])
@pytest.mark.parametrize("rows", [False, True])
def test_outputs_that_json_cannot_carry(dtype, rows):
    """AddSingleValueAndAdvance, json_tensor.cc:939; it is not asked without values."""
    dtype = tf.as_dtype(dtype).as_numpy_dtype
    with pytest.raises(ServingError, match="Failed to write JSON value") as caught:
        json_bodies.predictions({"y": np.ones(1, dtype)}, rows)
    assert caught.value.status == 400
    assert "[]" in json_bodies.predictions({"y": np.ones(0, dtype)}, rows)


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
