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
from keras_inception.export.sessions import EXIT
from keras_inception.export.signatures import DEFAULT, EARLY_EXIT_AT
from keras_inception.server.batch_queue import Arrays, BatchQueue
from keras_inception.server.depth import (
    AS_EXPORTED,
    LEVEL,
    Depth,
    Exits,
    by_load,
    exits_of,
)
from keras_inception.server.limits import Batching, ServingError, from_tensorflow
from keras_inception.server.pictures import check_pictures
from keras_inception.server.runtimes import load


class Outputs(Arrays):
    """The outputs of a signature by name, and how early they were answered.

    Attributes:
        level: The highest level of `depth` among the rows; 0 as the request asked.
    """

    level = 0


class Servable:
    """A loaded version, which has answered its warm-up requests.

    Creating it raises if it fails to load or to warm up. Requests that it can't answer
    raise a `ServingError`. The signature name `""` means the default signature. With
    `depth` the version's exits answer earlier under load.

    Attributes:
        definitions: TensorFlow's `SignatureDef` of each signature, by name.
        exits: How many rows each exit has answered.
        exits_as_exported: The same, of the rows at the exported thresholds alone.
        calibrated_shares: The share of pictures that each output answered when those
            were calibrated; empty without exits.
        levels: How many rows were answered at each level of `depth`, of signatures that
            can be answered earlier.
        highest_level: The highest one; 0 without exits, or without `depth`.
    """

    def __init__(
        self,
        path: Path,
        batching: Batching | None,
        picture_pixels: int,
        runtime: str | None = None,
        depth: Depth | None = None,
    ):
        loaded = load(path, runtime)
        self.close = loaded.close  # to be called once no request uses the version
        self.definitions = loaded.definitions
        self.exits: Counter[str] = Counter()
        self.exits_as_exported: Counter[str] = Counter()
        self.levels: Counter[int] = Counter()
        self._functions = loaded.functions
        self._ops = loaded.ops
        self._ours = loaded.rows_are_independent
        self._counting = threading.Lock()
        self._picture_pixels = picture_pixels
        chosen = batching or Batching(combine=False)
        if not (loaded.combines or chosen.every):
            chosen = dataclasses.replace(chosen, combine=False)
        try:
            found = exits_of(path) if EARLY_EXIT_AT in self._ours else Exits([], {})
            self.calibrated_shares = found.shares
            self.highest_level = 0
            if depth is not None and found.thresholds:
                self.highest_level = len(found.thresholds)
                earlier = by_load(self._functions, depth, found.thresholds)
                self._functions = {**self._functions, **earlier}
            self._batched = {
                name: BatchQueue(function, chosen)
                for name, function in self._functions.items()
                if chosen.every or name in self._ours
            }
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

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Outputs:
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
        if name in self._ours:
            self._count(name, outputs)
        answer = Outputs({key: outputs[key] for key in self.definitions[name].outputs})
        answer.level = int(outputs.get(LEVEL, np.zeros(1)).max(initial=0))
        return answer

    def _count(self, name: str, outputs: Arrays) -> None:
        if EXIT in outputs:
            exits = outputs[EXIT].astype(str)
            level = outputs.get(LEVEL, np.zeros(len(exits)))
            exported = (level == 1) | ((level == 0) & (name in AS_EXPORTED))
            with self._counting:
                self.exits.update(exits.tolist())
                self.exits_as_exported.update(exits[exported].tolist())
        if LEVEL in outputs:
            with self._counting:
                self.levels.update(outputs[LEVEL].ravel().tolist())

    def known(self, signature: str) -> str:
        """A signature's full name; raises a `ServingError` if there is none."""
        name = signature or DEFAULT
        if name not in self._functions:
            raise ServingError(
                f'Serving signature name: "{name}" not found in signature def'
            )
        return name

    def _unfit(self, name: str, inputs: Arrays) -> str:
        """Names the inputs that have another shape than the signature's."""
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
