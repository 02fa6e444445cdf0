"""Warm-up requests, which TF Serving sends itself before it serves a version.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog`
messages. A record that fails keeps TF Serving from loading the version at all, so the
written model answers every one before the version appears.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_inception.export.signatures import Signature
from keras_inception.files import plain_path

if TYPE_CHECKING:
    from tensorflow_serving.apis.input_pb2 import Input

FILE = Path("assets.extra/tf_serving_warmup_requests")


def write_requests(path: Path, name: str, signatures: Iterable[Signature]) -> None:
    """Writes the example of each signature into a SavedModel of a model's name."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    (path / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / FILE)) as writer:
        for signature in signatures:
            log = PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature.name
            for key, array in signature.example.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
            writer.write(log.SerializeToString())


def read_requests(path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields the signature name and inputs of each request in a warm-up file.

    The name is `""` for the default signature. Classify and regress requests are those
    of tensorflow_serving/servables/tensorflow/saved_model_warmup.cc: their examples are
    the input `inputs`.

    Raises:
        ValueError: If a record is of a type that TF Serving does not replay, or if
            there are more than its 1,000.
    """
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    with plain_path(path) as plain:
        records = tf.data.TFRecordDataset(str(plain / FILE)).take(1001)
        logs = list(map(PredictionLog.FromString, records.as_numpy_iterator()))
    if len(logs) > 1000:
        raise ValueError(f"{path / FILE} has more than 1,000 warm-up records")
    for log in logs:
        kind = log.WhichOneof("log_type")
        if kind is None:
            continue
        request: Any = getattr(getattr(log, kind), "request", None)
        if kind == "predict_log":
            inputs = {k: tf.make_ndarray(value) for k, value in request.inputs.items()}
            yield request.model_spec.signature_name, inputs
        elif kind in ("classify_log", "regress_log"):
            inputs = {"inputs": serialized_examples(request.input)}
            yield request.model_spec.signature_name, inputs
        elif kind == "multi_inference_log":
            inputs = {"inputs": serialized_examples(request.input)}
            for task in request.tasks:
                yield task.model_spec.signature_name, inputs
        else:
            raise ValueError(
                f"{path / FILE} has a warm-up record of type {kind}, which TF Serving "
                "does not replay either."
            )


def serialized_examples(given: "Input") -> np.ndarray:
    """The examples of a classify or regress request, each with the common context.

    Raises:
        ValueError: If there are none.
    """
    kind = given.WhichOneof("kind")
    examples = getattr(given, kind).examples if kind else []
    if not examples:
        raise ValueError("Input is empty.")
    with_context = kind == "example_list_with_context"
    # protobuf: concatenated messages parse as one message with the fields of both
    context = getattr(given, kind).context.SerializeToString() if with_context else b""
    contents = [context + example.SerializeToString() for example in examples]
    return np.array(contents, object)


def replay(path: Path, signatures: Iterable[Signature]) -> None:
    """Checks that a written SavedModel answers its warm-up requests as in memory."""
    written = tf.saved_model.load(path)
    requests = dict(read_requests(path))
    for signature in signatures:
        try:
            request = requests[signature.name]
            inputs = {key: tf.constant(array) for key, array in request.items()}
            answer = written.signatures[signature.name](**inputs)
        except (KeyError, TypeError, tf.errors.OpError) as error:
            raise RuntimeError(
                f"The written model can't answer {signature.name!r}'s warm-up request; "
                f"nothing was exported. {type(error).__name__}: {error}"
            ) from error
        for key, expected in signature.function(**inputs).items():
            same = (
                np.array_equal(answer[key], expected)
                if expected.dtype == tf.string
                else np.allclose(answer[key], expected, atol=1e-4, equal_nan=True)
            )
            if not same:
                raise RuntimeError(
                    f"The written model answers {signature.name!r} with another "
                    f"{key!r} than the model in memory; nothing was exported."
                )
