"""Builds and changes ONNX graphs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_inception.early_exit.confidence import SMALLEST

if TYPE_CHECKING:
    import onnx


class Builder:
    """Collects the nodes and constants of a graph, and names what they make."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(
        self, operation: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any
    ) -> Any:
        """Adds a node; returns the name of its output, or a list of several."""
        from onnx import helper

        stem = f"{self.prefix}{operation}_{len(self.nodes)}"
        made = [stem] if outputs == 1 else [f"{stem}:{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(operation, inputs, made, name=stem, **attributes)
        )
        return made[0] if outputs == 1 else made

    def constant(self, value: float | list[int]) -> str:
        """Adds a constant: whole numbers as int64, others as float32."""
        from onnx import numpy_helper

        kind = "float32" if isinstance(value, float) else "int64"
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def filled(self, shape: str, value: int) -> str:
        """Adds a tensor of this shape that is filled with a whole number."""
        from onnx import numpy_helper

        tensor = numpy_helper.from_array(np.array([value], "int64"))
        return self.add("ConstantOfShape", [shape], value=tensor)

    def logarithms(self, probabilities: str) -> str:
        """Adds the logarithms of probabilities; those below `SMALLEST` count as it."""
        bounded = self.add("Max", [probabilities, self.constant(SMALLEST)])
        return self.add("Log", [bounded])

    def graph(self, answers: str, exits: str) -> "onnx.GraphProto":
        """The graph, whose outputs are these."""
        from onnx import TensorProto, helper

        outputs = [
            helper.make_tensor_value_info(answers, TensorProto.FLOAT, None),
            helper.make_tensor_value_info(exits, TensorProto.INT64, None),
        ]
        return helper.make_graph(self.nodes, self.prefix, [], outputs, self.constants)


def keep_channels_first(parts: Sequence["onnx.GraphProto"], tensor: str) -> None:
    """Removes the transpositions of a tensor that goes from segment to segment.

    The exporter gives every graph inputs and outputs with the channels last, while the
    convolutions on both sides have them first.
    """
    makers = [(p, node) for p in parts for node in p.node if tensor in node.output]
    takers = [(p, node) for p in parts for node in p.node if tensor in node.input]
    expected = [[0, 2, 3, 1]] * len(makers) + [[0, 3, 1, 2]] * len(takers)
    if not makers or [_permutation(n) for _, n in makers + takers] != expected:
        return
    for part, node in makers:
        part.node.remove(node)
        rename_edges(part, {node.input[0]: tensor})
    for part, node in takers:
        part.node.remove(node)
        rename_edges(part, {node.output[0]: tensor})


def _permutation(node: "onnx.NodeProto") -> list[int] | None:
    if node.op_type != "Transpose":
        return None
    return [axis for attribute in node.attribute for axis in attribute.ints]


def rename_edges(graph: "onnx.GraphProto", names: Mapping[str, str]) -> None:
    """Renames inputs, outputs and the tensors between nodes."""
    from onnx import compose

    compose.add_prefix_graph(
        graph,
        "",
        rename_nodes=False,
        rename_edges=False,
        rename_inputs=False,
        rename_outputs=False,
        rename_initializers=False,
        rename_value_infos=False,
        inplace=True,
        name_map=dict(names),
    )


def copy_of(graph: "onnx.GraphProto") -> "onnx.GraphProto":
    """A copy without notes on the shapes inside."""
    copy = type(graph)()
    copy.CopyFrom(graph)
    del copy.value_info[:]
    return copy
