"""Pictures and `tf.Example`s in the inputs of a model, told by what its graph does."""

from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_inception.server.limits import ServingError

_DECODERS = {
    f"Decode{name}"
    for name in ("Image", "Jpeg", "AndCropJpeg", "Png", "Gif", "Bmp", "WebP")
}
_PARSERS = {"ParseExample", "ParseExampleV2", "ParseSingleExample"}


class GraphOps(set[str]):
    """The operations of a graph and its functions.

    The names of inputs mean nothing in TF Serving, so only a model that decodes
    pictures has its pictures examined, and only one that parses examples its examples.
    """

    def __init__(self, graph: tf.compat.v1.GraphDef):
        super().__init__(_ops(graph))

    @property
    def decodes_pictures(self) -> bool:
        """Whether the graph decodes picture files."""
        return not _DECODERS.isdisjoint(self)

    @property
    def parses_examples(self) -> bool:
        """Whether the graph parses serialized `tf.Example`s."""
        return not _PARSERS.isdisjoint(self)


def _ops(graph: tf.compat.v1.GraphDef) -> Iterator[str]:
    yield from (node.op for node in graph.node)
    for function in graph.library.function:
        yield from (node.op for node in function.node_def)


def canonical(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs of a signature with each `tf.Example` serialized anew.

    A message can hold a feature twice, or two of its alternatives; parsers differ in
    which one counts. Afterwards all find the same.
    """
    plain = dict(inputs)
    if list(inputs) == ["inputs"] and inputs["inputs"].dtype == object:
        serialized = inputs["inputs"]
        plain["inputs"] = np.empty(serialized.shape, object)
        plain["inputs"].flat = [_serialized_anew(one) for one in serialized.ravel()]
    return plain


def _serialized_anew(serialized: bytes) -> bytes:
    try:
        example = tf.train.Example.FromString(serialized)
    except DecodeError as error:
        raise ServingError(f"Could not parse example input: {error}") from None
    example.DiscardUnknownFields()
    return example.SerializeToString()
