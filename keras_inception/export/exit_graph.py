"""Early exits as one ONNX graph, whose conditions skip what no picture needs.

The graph of each segment is exported on its own, and a later one lies within a branch
of an `If`:

    answers, tensors = segment(images)
    rows = NonZero(confidence(answers) < threshold)
    remaining = Gather(tensors, rows)
    if Size(rows) > 0:
        later = ...                    # the next segment, on what remains
        answers = ScatterND(answers, rows, later)
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_inception.early_exit import EarlyExit
from keras_inception.early_exit.segments import Segment
from keras_inception.export.onnx_graphs import (
    Builder,
    copy_of,
    keep_channels_first,
    rename_edges,
)
from keras_inception.export.sessions import EXIT, IMAGES, THRESHOLDS
from keras_inception.outputs import MAIN

if TYPE_CHECKING:
    import onnx

_ANSWER = "answer"


def exportable_segments(early_exit: EarlyExit) -> list[keras.Model]:
    """The segments as Keras models whose inputs and outputs have names of their own."""
    return [
        _with_names(segment, tensor_names(early_exit))
        for segment in early_exit.segments
    ]


def tensor_names(early_exit: EarlyExit) -> dict[int, str]:
    """Names of the tensors that go from segment to segment, by their identity."""
    made = [key for segment in early_exit.segments for key in segment.output_ids]
    names = {key: f"tensor_{number}" for number, key in enumerate(made)}
    return {id(early_exit.model.inputs[0]): IMAGES} | names


def compose(
    early_exit: EarlyExit, graphs: Sequence["onnx.ModelProto"]
) -> "onnx.ModelProto":
    """Composes the exported graphs of `exportable_segments` to one model.

    From `images` and `thresholds`, float32 `(exits,)`, to `main`, float32 `(batch,
    classes)` probabilities, and `exit`, int64 `(batch,)`, the index of the output that
    answered, main last. The thresholds default to those of `early_exit`.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    (model_input,) = early_exit.model.inputs
    images = {id(model_input): IMAGES}
    graph = _Composer(early_exit, graphs).graph_from(0, images)
    outputs = [node.name for node in graph.output]
    for name, made in zip((MAIN, EXIT), outputs, strict=True):
        graph.node.append(helper.make_node("Identity", [made], [name]))
    thresholds = np.array([*early_exit.thresholds.values()], "float32")
    shape = ["batch", *model_input.shape[1:]]
    classes = early_exit.model.output[MAIN].shape[-1]
    describe = helper.make_tensor_value_info
    whole = helper.make_graph(
        graph.node,
        early_exit.model.name,
        [
            describe(IMAGES, TensorProto.FLOAT, shape),
            describe(THRESHOLDS, TensorProto.FLOAT, thresholds.shape),
        ],
        [
            describe(MAIN, TensorProto.FLOAT, ["batch", classes]),
            describe(EXIT, TensorProto.INT64, ["batch"]),
        ],
        # A constant of an input's name is its default.
        [*graph.initializer, numpy_helper.from_array(thresholds, THRESHOLDS)],
    )
    opsets = {(o.domain, o.version) for part in graphs for o in part.opset_import}
    model = helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid(*opset) for opset in sorted(opsets)],
        ir_version=min(part.ir_version for part in graphs),
        producer_name="keras-inception",
    )
    checker.check_model(model)
    return model


def _with_names(segment: Segment, names: Mapping[int, str]) -> keras.Model:
    # The exporter names an input after its layer, and invents a name for an output that
    # is not in a dict.
    taken = zip(segment.input_ids, segment.model.inputs, strict=True)
    inputs = [keras.Input(t.shape[1:], dtype=t.dtype, name=names[i]) for i, t in taken]
    made = keras.tree.flatten(segment.model(inputs))
    keys = [_ANSWER, *(names[key] for key in segment.output_ids)]
    model = keras.Model(inputs, dict(zip(keys, made, strict=True)), name=segment.name)
    # Keras exports only a model that has been called.
    model([np.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in inputs])
    return model


class _Composer:
    """Builds the graph of a segment with all later ones within it."""

    def __init__(self, early_exit: EarlyExit, graphs: Sequence["onnx.ModelProto"]):
        self._early_exit = early_exit
        self._parts = [copy_of(part.graph) for part in graphs]
        self._tensor_names = tensor_names(early_exit)
        for name in self._tensor_names.values():
            keep_channels_first(self._parts, name)

    def graph_from(self, index: int, tensors: Mapping[int, str]) -> "onnx.GraphProto":
        """From the names of `tensors` to answers and exits of the pictures in them.

        The graph has no inputs: a branch of a condition sees the names around it.
        """
        from onnx import compose as onnx_compose

        segment = self._early_exit.segments[index]
        build = Builder(f"{segment.name}/")
        # Prefixed by the segment, so that no two segments share a name.
        names = {self._tensor_names[key]: name for key, name in tensors.items()}
        part = self._parts[index]
        rename_edges(part, names)
        part = onnx_compose.add_prefix_graph(part, build.prefix, rename_inputs=False)
        build.nodes += part.node
        build.constants += part.initializer
        answers = build.prefix + _ANSWER
        if self._early_exit.gives_logits:
            answers = build.add("Softmax", [answers], axis=-1)
        count = build.add("Shape", [answers], end=1)
        exits = build.filled(count, index)
        if segment.name == MAIN:
            return build.graph(answers, exits)
        threshold = build.add("Gather", [THRESHOLDS, build.constant(index)])
        confidence = self._confidence(build, segment.name, answers)
        # Not "less than", which is false for NaN as well.
        leaves = build.add("GreaterOrEqual", [confidence, threshold])
        # (pictures, 1), as ScatterND takes it, and (pictures,)
        stays = build.add("NonZero", [build.add("Not", [leaves])])
        rows = build.add("Transpose", [stays], perm=[1, 0])
        flat = build.add("Reshape", [stays, build.constant([-1])])
        passed_on = [build.prefix + self._tensor_names[i] for i in segment.output_ids]
        later_tensors = segment.tensors_after(tensors, passed_on)

        # Before the condition: ONNX Runtime crashes where a branch reads the output of
        # a DequantizeLinear around it.
        gathered = {
            key: build.add("Gather", [name, flat], axis=0)
            for key, name in later_tensors.items()
        }
        rest = Builder(f"{segment.name}/rest/")
        later = self.graph_from(index + 1, gathered)
        rest.nodes += later.node
        rest.constants += later.initializer
        updated = [
            rest.add("ScatterND", [before, rows, output.name])
            for before, output in zip((answers, exits), later.output, strict=True)
        ]
        done = Builder(f"{segment.name}/done/")
        same = [done.add("Identity", [name]) for name in (answers, exits)]
        some_stay = build.add("Greater", [build.add("Size", [flat]), build.constant(0)])
        found = build.add(
            "If",
            [some_stay],
            outputs=2,
            then_branch=rest.graph(*updated),
            else_branch=done.graph(*same),
        )
        return build.graph(*found)

    def _confidence(self, build: "Builder", name: str, answers: str) -> str:
        """As `confidence.py` computes it."""
        temperature = self._early_exit.temperatures.get(name, 1.0)
        if temperature != 1:
            scaled = build.add(
                "Div", [build.logarithms(answers), build.constant(temperature)]
            )
            answers = build.add("Softmax", [scaled], axis=-1)
        if self._early_exit.confidence == "max_probability":
            return build.add("ReduceMax", [answers], axes=[-1], keepdims=0)
        weighted = build.add("Mul", [answers, build.logarithms(answers)])
        axes = build.constant([-1])
        negative = build.add("ReduceSum", [weighted, axes], keepdims=0)
        classes = self._early_exit.model.output[MAIN].shape[-1]
        share = build.add("Div", [negative, build.constant(math.log(classes))])
        return build.add("Add", [share, build.constant(1.0)])
