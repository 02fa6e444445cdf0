"""Warm-up requests, which TF Serving sends itself before it serves a version.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog`
messages. A record that fails keeps TF Serving from loading the version at all, so the
written model answers every one before the version appears.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_inception.export.signatures import Signature
from keras_inception.files import plain_path

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
    """Yields the signature name and inputs of each request in a warm-up file."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    with plain_path(path) as plain:
        records = tf.data.TFRecordDataset(str(plain / FILE))
        logs = list(map(PredictionLog.FromString, records.as_numpy_iterator()))
    for log in logs:
        kind = log.WhichOneof("log_type")
        if kind != "predict_log":
            raise ValueError(
                f"{path / FILE} has a warm-up record of type {kind}; only predict_log "
                "is supported here."
            )
        request = log.predict_log.request
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


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
