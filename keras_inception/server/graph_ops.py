"""The operations of a graph, which tell pictures and examples from other strings."""

from collections.abc import Iterator

import tensorflow as tf

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
