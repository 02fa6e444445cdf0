"""One loaded version of a model, which answers requests from many threads."""

import contextlib
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from keras_inception.export import warmup
from keras_inception.export.signatures import DEFAULT
from keras_inception.server.examples import GraphOps, canonical
from keras_inception.server.limits import Batching, ServingError, from_tensorflow
from keras_inception.server.pictures import check_pictures

Arrays = dict[str, np.ndarray]
Tensors = dict[str, tf.Tensor]


class Servable:
    """A loaded SavedModel, which has answered its warm-up requests.

    Creating it raises a `tf.errors.OpError`, `OSError` or `ValueError` if it fails to
    load or to warm up. Requests that it can't answer raise a `ServingError`. The name
    `""` means the default signature.
    """

    def __init__(self, path: Path, batching: Batching | None, picture_pixels: int):
        # Must be kept: a signature does not keep the variables alive.
        self._loaded = tf.saved_model.load(path)
        self._signatures = dict(self._loaded.signatures)
        self._picture_pixels = picture_pixels
        self._most_rows = batching.rows if batching else 0
        self._batched = {
            name: _batched(name, function, batching)
            for name, function in self._signatures.items()
            if batching
        }
        graph = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        self.signature_def: dict[str, dict] = {
            name: MessageToDict(
                definition,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, definition in graph.meta_graphs[0].signature_def.items()
        }
        self._ops = GraphOps(graph.meta_graphs[0].graph_def)
        if (path / warmup.FILE).is_file():
            for name, inputs in warmup.read_requests(path):
                self._run(name, inputs)

    def inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """The inputs of a signature by name."""
        _, inputs = self._signatures[self._known(signature)].structured_input_signature
        return inputs

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs of a signature by name, for inputs as `inputs` specifies them.

        Their shapes may differ; the graph decides whether it can use them.
        """
        name = self._known(signature)
        if self._ops.decodes_pictures:
            if self._ops.parses_examples:
                inputs = canonical(inputs)
            check_pictures(inputs, self._picture_pixels)
        return self._run(name, inputs)

    def _known(self, signature: str) -> str:
        name = signature or DEFAULT
        if name not in self._signatures:
            raise ServingError(
                f'Serving signature name: "{name}" not found in signature def'
            )
        return name

    def _run(self, name: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        specs = self.inputs(name)
        tensors = {key: tf.constant(inputs[key], specs[key].dtype) for key in specs}
        rows = {len(t) if t.shape.rank else 0 for t in tensors.values()}
        unfit = [
            f"{key} has shape {tensors[key].shape}; the signature takes {spec.shape}"
            for key, spec in specs.items()
            if not spec.shape.is_compatible_with(tensors[key].shape)
        ]
        try:
            if not unfit and len(rows) == 1 and 0 < min(rows) <= self._most_rows:
                # A damaged picture fails its whole batch, and may belong to another
                # request, so after a failure this one is run again alone.
                with contextlib.suppress(tf.errors.InvalidArgumentError):
                    return _arrays(self._batched[name](**tensors))
            return _arrays(self._signatures[name](**tensors))
        except tf.errors.OpError as error:
            fault = from_tensorflow(error)
            if unfit:
                message = f"{', '.join(unfit)}: {fault}"
                raise ServingError(message, fault.status) from error
            raise fault from error


_numbers = itertools.count()


def _batched(
    name: str, function: tf.types.experimental.ConcreteFunction, batching: Batching
) -> Callable[..., Tensors]:
    """A signature whose concurrent calls share batches.

    It takes at most `batching.rows` rows, and fails for all calls in a batch if one of
    them fails.
    """
    specs = function.structured_input_signature[1]
    outputs = sorted(function.structured_outputs)

    @tf.nondifferentiable_batch_function(
        batching.threads,
        batching.rows,
        batching.micros,
        max_enqueued_batches=10_000,  # never reached: Limits.queue is smaller
        autograph=False,
    )
    def run_batch(*tensors):
        answer = function(**dict(zip(specs, tensors, strict=True)))
        return [answer[output] for output in outputs]

    # TensorFlow has one batch queue per name scope and process. With equal names, two
    # models would answer each other's requests (test_two_models_do_not_share_a_batch).
    scope = f"{name}_{next(_numbers)}"

    @tf.function(input_signature=list(specs.values()), autograph=False)
    def enqueue(*tensors):
        with tf.name_scope(scope):
            return dict(zip(outputs, run_batch(*tensors), strict=True))

    return lambda **tensors: enqueue(*(tensors[key] for key in specs))


def _arrays(outputs: Tensors) -> Arrays:
    return {name: tensor.numpy() for name, tensor in outputs.items()}
