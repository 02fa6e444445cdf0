"""One loaded version of a model, which answers requests from many threads."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict

from keras_inception.export import warmup
from keras_inception.export.signatures import DEFAULT
from keras_inception.server.batch_queue import Arrays, BatchQueue
from keras_inception.server.limits import Batching, ServingError, from_tensorflow
from keras_inception.server.pictures import check_pictures
from keras_inception.server.runtimes import load


class Servable:
    """A loaded version, which has answered its warm-up requests.

    Creating it raises if it fails to load or to warm up. Requests that it can't answer
    raise a `ServingError`. The signature name `""` means the default signature.

    Attributes:
        definitions: TensorFlow's `SignatureDef` of each signature, by name.
        exits: How many rows each exit has answered.
    """

    def __init__(
        self,
        path: Path,
        batching: Batching | None,
        picture_pixels: int,
        runtime: str | None = None,
    ):
        loaded = load(path, runtime)
        self.definitions = loaded.definitions
        self.exits: Counter[str] = Counter()
        self._functions = loaded.functions
        self._ops = loaded.ops
        self._ours = loaded.rows_are_independent
        self._counting = threading.Lock()
        self._picture_pixels = picture_pixels
        chosen = batching or Batching(combine=False)
        if not (loaded.combines or chosen.every):
            chosen = dataclasses.replace(chosen, combine=False)
        self._batched = {
            name: BatchQueue(function, chosen)
            for name, function in loaded.functions.items()
            if chosen.every or name in loaded.rows_are_independent
        }
        self.close = loaded.close  # to be called when no request uses it any more
        try:
            if (path / warmup.FILE).is_file():
                for name, inputs in warmup.read_requests(path):
                    name = self.known(name)
                    self._functions[name](self._complete(name, inputs))
        except BaseException:
            self.close()
            raise

    @property
    def signature_def(self) -> dict[str, dict]:
        """The definitions as JSON objects."""
        return {
            name: MessageToDict(
                definition,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, definition in self.definitions.items()
        }

    def inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """The inputs of a signature by name."""
        definition = self.definitions[self.known(signature)]
        return {
            name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), info.dtype)
            for name, info in definition.inputs.items()
        }

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs of a signature by name."""
        name = self.known(signature)
        given = self._complete(name, inputs)
        if self._ops.decodes_pictures:
            pixels, parses = self._picture_pixels, self._ops.parses_examples
            given = dict(check_pictures(given, pixels, parses))
        try:
            outputs = self._batched.get(name, self._functions[name])(given)
        except tf.errors.OpError as error:
            fault = from_tensorflow(error)
            if unfit := self._unfit(name, given):
                raise ServingError(f"{unfit}: {fault}", fault.status) from error
            raise fault from error
        if name in self._ours and "exit" in outputs:
            names, counts = np.unique(outputs["exit"].astype(str), return_counts=True)
            with self._counting:
                self.exits.update(
                    dict(zip(names.tolist(), counts.tolist(), strict=True))
                )
        return outputs

    def known(self, signature: str) -> str:
        """A signature's full name; raises a `ServingError` if there is none."""
        name = signature or DEFAULT
        if name not in self._functions:
            raise ServingError(
                f'Serving signature name: "{name}" not found in signature def'
            )
        return name

    def _unfit(self, name: str, inputs: Arrays) -> str:
        """Which inputs have another shape than the signature's."""
        return ", ".join(
            f"{key} has shape {list(inputs[key].shape)}; the signature takes "
            f"{spec.shape}"
            for key, spec in self.inputs(name).items()
            if not spec.shape.is_compatible_with(inputs[key].shape)
        )

    def _complete(self, name: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """The inputs with the signature's defaults, if all are there, of their types.

        The rules of tensorflow_serving/servables/tensorflow/predict_util.cc, which
        compares no shapes.
        """
        definition = self.definitions[name]
        defaults = {
            key: tf.make_ndarray(value)
            for key, value in definition.defaults.items()
            if key not in inputs
        }
        given = {**defaults, **inputs}
        extra = sorted(set(given) - set(definition.inputs))
        missing = sorted(set(definition.inputs) - set(given))
        if extra or missing:
            raise ServingError(
                f"input size does not match signature: {len(inputs)}!="
                f"{len(definition.inputs)}. Sent extra: {{{','.join(extra)}}}. Missing "
                f"but required: {{{','.join(missing)}}}."
            )
        for key, array in given.items():
            expected = tf.as_dtype(definition.inputs[key].dtype)
            if tf.as_dtype(array.dtype) != expected:
                raise ServingError(
                    f"{key} has type {tf.as_dtype(array.dtype).name}; the signature "
                    f"takes {expected.name}"
                )
        return given
