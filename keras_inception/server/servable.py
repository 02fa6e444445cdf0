"""One loaded version of a model, which answers requests from many threads."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from keras_inception.export import warmup
from keras_inception.export.signatures import CLASSIFY, DEFAULT
from keras_inception.server.batching import batched
from keras_inception.server.errors import ServingError, from_tensorflow
from keras_inception.server.limits import Batching
from keras_inception.server.pictures import check_pictures, pictures_in


class Servable:
    """A loaded and warmed-up SavedModel.

    Creating it answers the warm-up requests, as TF Serving does.

    Args:
        path: The version's directory.
        batching: How rows of concurrent requests are combined; `None` for no batching.
        picture_pixels: The most pixels that a picture may have.

    Raises:
        tf.errors.OpError, OSError, ValueError: If it fails to load or to warm up.
    """

    def __init__(self, path: Path, batching: Batching | None, picture_pixels: int):
        # Must be kept: a signature does not keep the variables alive.
        self._loaded = tf.saved_model.load(path)
        self._signatures = dict(self._loaded.signatures)
        self._picture_pixels = picture_pixels
        self._most_rows = batching.rows if batching else 0
        self._batched = {}
        if batching:
            for name, function in self._signatures.items():
                self._batched[name] = batched(name, function, batching)
        graph = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        self.signature_def: dict[str, dict] = {
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

    def inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """The inputs of a signature by name; `""` is the default signature.

        Raises:
            ServingError: If there is no such signature.
        """
        return dict(
            self._signatures[self._known(signature)].structured_input_signature[1]
        )

    def predict(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature by name.

        Args:
            signature: Its name; `""` is the default signature.
            inputs: Arrays by name, as `inputs(signature)` specifies them.

        Raises:
            ServingError: If there is no such signature, a picture is refused, or the
                model fails.
        """
        name = self._known(signature)
        check_pictures(pictures_in(inputs), self._picture_pixels)
        return self._run(name, inputs)

    def classify(
        self, signature: str, examples: Iterable[Mapping[str, list]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classes and scores, best first, for examples given by their features.

        Raises:
            ServingError: As `predict`, or if the signature does not classify.
        """
        name = self._known(signature)
        takes = set(self.inputs(name))
        returns = set(self._signatures[name].structured_outputs)
        if takes != {"inputs"} or not returns <= {"classes", "scores"}:
            raise ServingError(
                f"Expected classification signature: {name!r} takes "
                f"{', '.join(sorted(takes))} and returns {', '.join(sorted(returns))}; "
                "classify needs a signature from 'inputs' to 'classes' and 'scores', "
                f"such as {CLASSIFY!r}"
            )
        serialized = [_example(features).SerializeToString() for features in examples]
        answer = self.predict(name, {"inputs": np.array(serialized, object)})
        return answer["classes"], answer["scores"]

    def _known(self, signature: str) -> str:
        name = signature or DEFAULT
        if name not in self._signatures:
            raise ServingError(
                f'Serving signature name: "{name}" not found in signature def'
            )
        return name

    def _run(
        self, name: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        tensors = {key: tf.constant(array) for key, array in inputs.items()}
        rows = {
            tensor.shape[0] if tensor.shape.rank else 0 for tensor in tensors.values()
        }
        try:
            if len(rows) == 1 and 0 < min(rows) <= self._most_rows:
                try:
                    return _arrays(self._batched[name](**tensors))
                except tf.errors.InvalidArgumentError:
                    # A damaged picture fails its whole batch, and may belong to another
                    # request, so this one is run again alone.
                    pass
            return _arrays(self._signatures[name](**tensors))
        except tf.errors.OpError as error:
            raise from_tensorflow(error) from error


def _arrays(outputs: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in outputs.items()}


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
