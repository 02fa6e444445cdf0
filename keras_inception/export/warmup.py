"""Warm-up requests, which TF Serving answers for itself before a version is served.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog`
messages. A record that fails keeps TF Serving from loading the version at all, so every
one is answered by the written model before the version appears.

The messages are encoded here rather than by the package tensorflow-serving-api, which
brings a second TensorFlow; their fields (tensorflow_serving/apis/{prediction_log,
predict,model}.proto):

    PredictionLog   predict_log = 6
    PredictLog      request = 1
    PredictRequest  model_spec = 1, inputs = 2 (map: key = 1, value = 2)
    ModelSpec       name = 1, signature_name = 3
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from keras_inception.export.signatures import Signature
from keras_inception.weights.protobuf import fields

FILE = Path("assets.extra/tf_serving_warmup_requests")


def write_requests(path: Path, name: str, signatures: Iterable[Signature]) -> None:
    """Writes one request for each signature into a SavedModel.

    Args:
        path: The SavedModel's directory.
        name: Of the served model.
        signatures: Whose examples are the requests.
    """
    (path / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / FILE)) as writer:
        for signature in signatures:
            writer.write(_prediction_log(name, signature.name, signature.example))


def read_requests(path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The requests in a SavedModel's warm-up file: signature name and inputs."""
    for record in tf.data.TFRecordDataset(str(path / FILE)).as_numpy_iterator():
        log = dict(fields(memoryview(record)))
        request = dict(fields(log[6]))[1]
        name, inputs = "", {}
        for number, value in fields(request):
            part = dict(fields(value))
            if number == 1:
                name = bytes(part[3]).decode()
            elif number == 2:
                tensor = TensorProto.FromString(bytes(part[2]))
                inputs[bytes(part[1]).decode()] = tf.make_ndarray(tensor)
        yield name, inputs


def replay(path: Path, signatures: Iterable[Signature]) -> None:
    """Asks a written SavedModel what its warm-up file asks.

    Raises:
        RuntimeError: If a signature is missing in the file or in the model, fails, or
            answers otherwise than before it was written.
    """
    written = tf.saved_model.load(path)
    requests = dict(read_requests(path))
    for signature in signatures:
        try:
            inputs = {
                key: tf.constant(x) for key, x in requests[signature.name].items()
            }
            answer = written.signatures[signature.name](**inputs)
        except (KeyError, TypeError, tf.errors.OpError) as error:
            raise RuntimeError(
                f"The written model can't answer {signature.name!r}'s warm-up request; "
                f"nothing was exported. {type(error).__name__}: {error}"
            ) from error
        expected = signature.function(**inputs)
        for key, tensor in expected.items():
            same = (
                np.array_equal(answer[key], tensor)
                if tensor.dtype == tf.string
                else np.allclose(answer[key], tensor, atol=1e-4, equal_nan=True)
            )
            if not same:
                raise RuntimeError(
                    f"The written model answers {signature.name!r} with another "
                    f"{key!r} than the model in memory; nothing was exported."
                )


def _prediction_log(name: str, signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    model_spec = _field(1, name.encode()) + _field(3, signature.encode())
    request = _field(1, model_spec)
    for key, array in inputs.items():
        tensor = tf.make_tensor_proto(array).SerializeToString()
        request += _field(2, _field(1, key.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field, which is all that these messages are made of."""
    size, varint = len(content), bytearray()
    while size > 127:
        varint.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *varint, size]) + content
