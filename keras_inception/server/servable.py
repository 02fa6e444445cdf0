"""One loaded version of a model, and the batching of requests to it."""

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from PIL import Image
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from keras_inception.export import warmup
from keras_inception.export.signatures import CLASSIFY, DEFAULT, IMAGE_BYTES
from keras_inception.server.errors import ServingError, of_tensorflow
from keras_inception.server.json_tensor import Input
from keras_inception.server.limits import Batching

_numbers = itertools.count()


class Servable:
    """A loaded SavedModel that answers requests from many threads.

    It is ready when it is there: its warm-up requests have been answered, as TF Serving
    does it.

    Args:
        path: Of the version.
        batching: How rows of concurrent requests are put together; `None`: not at all.
        picture_pixels: The most that a picture may have.

    Raises:
        tf.errors.OpError, OSError, ValueError: If it can't be loaded or warmed up.
    """

    def __init__(self, path: Path, batching: Batching | None, picture_pixels: int):
        # A signature doesn't keep the variables alive; the loaded model does.
        self._loaded = tf.saved_model.load(path)
        self._batching = batching
        self._picture_pixels = picture_pixels
        self._alone = dict(self._loaded.signatures)
        self._batched = {}
        if batching:
            for name, function in self._alone.items():
                self._batched[name] = _batched(name, function, batching)
        graph = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        self.signature_def = {
            name: MessageToDict(
                definition,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, definition in graph.meta_graphs[0].signature_def.items()
        }
        if (path / warmup.FILE).is_file():
            for name, inputs in warmup.read_requests(path):
                self._run(name, inputs)

    def inputs(self, signature: str) -> dict[str, Input]:
        """What a signature takes, by name; the default one for an empty name."""
        function = self._function(signature)
        return {
            name: Input(np.dtype(spec.dtype.as_numpy_dtype).name, _shape(spec))
            for name, spec in function.structured_input_signature[1].items()
        }

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature by name, for inputs of the shapes it takes."""
        self._function(signature)
        self._check_pictures(_pictures(inputs))
        return self._run(signature or DEFAULT, inputs)

    def classify(
        self, signature: str, examples: Iterable[Mapping[str, list]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classes and scores, best first, for examples given by their features."""
        name = signature or DEFAULT
        function = self._function(name)
        outputs = set(function.structured_outputs)
        if set(self.inputs(name)) != {"inputs"} or not outputs <= {"classes", "scores"}:
            raise ServingError(
                f"Expected classification signature: {name!r} takes "
                f"{', '.join(self.inputs(name))} and returns "
                f"{', '.join(sorted(outputs))}; classify needs a signature from "
                f"'inputs' to 'classes' and 'scores', such as {CLASSIFY!r}"
            )
        serialized = [_example(features).SerializeToString() for features in examples]
        answer = self.predict(name, {"inputs": np.array(serialized, object)})
        return answer["classes"], answer["scores"]

    def _function(self, signature: str):
        name = signature or DEFAULT
        if name not in self._alone:
            raise ServingError(
                f'Serving signature name: "{name}" not found in signature def'
            )
        return self._alone[name]

    def _run(self, name: str, inputs: Mapping[str, np.ndarray]):
        tensors = {key: tf.constant(array) for key, array in inputs.items()}
        rows = {
            tensor.shape[0] if tensor.shape.rank else 0 for tensor in tensors.values()
        }
        try:
            if (
                name in self._batched
                and len(rows) == 1
                and (0 < min(rows) <= self._batching.rows)
            ):
                try:
                    return _arrays(self._batched[name](**tensors))
                except tf.errors.InvalidArgumentError:
                    # A damaged picture fails its whole batch, and may be another's:
                    # this request is asked again, alone.
                    pass
            return _arrays(self._alone[name](**tensors))
        except tf.errors.OpError as error:
            raise of_tensorflow(error) from error

    def _check_pictures(self, pictures: Iterable[bytes]) -> None:
        """Refuses what is no picture, or too large a one, by its header.

        A few kilobytes can declare a gigapixel; and what is refused here can't spoil a
        batch.
        """
        for index, contents in enumerate(pictures):
            try:
                with Image.open(io.BytesIO(contents)) as picture:
                    pixels = picture.width * picture.height
                    # TensorFlow reads every frame of it, whatever their sizes
                    animated = picture.format == "GIF" and picture.is_animated
            except (Image.DecompressionBombError, Image.DecompressionBombWarning):
                pixels, animated = float("inf"), False
            except Exception:  # a parser of hostile bytes raises all sorts of things
                raise ServingError(
                    f"{IMAGE_BYTES} {index} is no picture; JPEG, PNG, GIF and BMP "
                    'files are, sent as {"b64": ...} in the standard alphabet'
                ) from None
            if animated:
                raise ServingError(
                    f"{IMAGE_BYTES} {index} is an animation; send one frame of it"
                )
            if pixels > self._picture_pixels:
                raise ServingError(
                    f"{IMAGE_BYTES} {index} has {pixels:,} pixels; at most "
                    f"{self._picture_pixels:,} are accepted",
                    413,
                )


def _pictures(inputs: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """The picture files among a request's inputs, those inside of examples as well."""
    yield from inputs.get(IMAGE_BYTES, np.array([])).ravel()
    if list(inputs) == ["inputs"] and inputs["inputs"].dtype == object:
        for serialized in inputs["inputs"].ravel():
            with contextlib.suppress(DecodeError):  # for TensorFlow to refuse
                features = tf.train.Example.FromString(serialized).features.feature
                yield from features[IMAGE_BYTES].bytes_list.value


def _batched(name: str, function, batching: Batching):
    """A signature whose concurrent calls TensorFlow puts together.

    The batch function's queue goes by its name scope, for the whole process. Under
    equal names two models would take from one queue, and answer for each other.
    """
    specs = function.structured_input_signature[1]
    outputs = sorted(function.structured_outputs)

    @tf.nondifferentiable_batch_function(
        batching.threads,
        batching.rows,
        batching.micros,
        max_enqueued_batches=10_000,  # Limits.queue bounds it before
        autograph=False,
    )
    def together(*tensors):
        answer = function(**dict(zip(specs, tensors, strict=True)))
        return [answer[output] for output in outputs]

    scope = f"{name}_{next(_numbers)}"

    @tf.function(input_signature=list(specs.values()), autograph=False)
    def batched(*tensors):
        with tf.name_scope(scope):
            return dict(zip(outputs, together(*tensors), strict=True))

    return lambda **tensors: batched(*(tensors[key] for key in specs))


def _arrays(outputs: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def _shape(spec: tf.TensorSpec) -> tuple[int | None, ...] | None:
    return None if spec.shape.rank is None else tuple(spec.shape)


def _example(features: Mapping[str, list]) -> tf.train.Example:
    example = tf.train.Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        if not values:
            continue
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return example
