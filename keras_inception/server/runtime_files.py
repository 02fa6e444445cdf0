"""Loads what `export --format` wrote for ONNX Runtime and OpenVINO.

They get the signatures that clients know from a SavedModel: `serving_default`, and
`serving_bytes`, whose pictures TensorFlow decodes as in a SavedModel.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from keras_inception.export.signatures import DEFAULT, IMAGE_BYTES, pixels_of
from keras_inception.outputs import MAIN
from keras_inception.server.batch_queue import Arrays
from keras_inception.server.graph_ops import GraphOps
from keras_inception.server.limits import ServingError
from keras_inception.server.saved_models import Function, Loaded

_DECODES = GraphOps(GraphDef(node=[NodeDef(op="DecodeImage")]))

Tensors = dict[str, tuple[str, list[int | None]]]  # type and shape by name


def load_file(file: Path, runtime: str) -> Loaded:
    """Loads a file of `export --format`, and the `labels.txt` beside it.

    Raises:
        RuntimeError: If the runtime is not installed or can't load the file.
    """
    try:
        opener = {"onnx": _open_onnx, "openvino": _open_openvino}[runtime]
        run, inputs, outputs = opener(file)
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"{runtime} needs {error.name}: pip install 'keras-inception[{runtime}]'"
        ) from None
    except Exception as error:  # each runtime raises its own types
        raise RuntimeError(f"{runtime} can't load {file}: {error}") from error

    def checked(arrays: Arrays) -> Arrays:
        for key, (_, shape) in inputs.items():
            if not tf.TensorShape(shape).is_compatible_with(arrays[key].shape):
                raise ServingError(
                    f"{key} has shape {list(arrays[key].shape)}; the model takes "
                    f"{shape}"
                )
        if len(arrays["images"]) == 0:  # not every runtime accepts an empty batch
            one = {**arrays, "images": np.zeros((1, side, side, 3), "float32")}
            return {key: array[:0] for key, array in run(one).items()}
        return run(arrays)

    side = int(inputs["images"][1][1] or 0)
    functions: dict[str, Function] = {DEFAULT: checked}
    definitions = {DEFAULT: _definition(inputs, outputs)}
    labels = file.with_name("labels.txt")
    if set(inputs) == {"images"} and labels.is_file():
        names = np.array(labels.read_bytes().splitlines(), object)
        decoded = _decoder(side)

        def ranked(arrays: Arrays) -> Arrays:
            images = decoded(tf.constant(arrays[IMAGE_BYTES], tf.string)).numpy()
            answer = checked({"images": images})
            scores = answer.pop(MAIN)
            order = np.argsort(-scores, axis=-1, kind="stable")
            best = np.take_along_axis(scores, order, -1)
            return {"classes": names[order], "scores": best, **answer}

        count = len(names)
        functions["serving_bytes"] = ranked
        definitions["serving_bytes"] = _definition(
            {IMAGE_BYTES: ("string", [None])},
            {
                "classes": ("string", [None, count]),
                "scores": ("float32", [None, count]),
                **{key: value for key, value in outputs.items() if key != MAIN},
            },
        )
    return Loaded(functions, definitions, set(functions), _DECODES, lambda: None)


def _open_onnx(path: Path) -> tuple[Function, Tensors, Tensors]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    types = {"tensor(float)": "float32", "tensor(int64)": "int64"}

    def described(nodes: list) -> Tensors:
        return {
            node.name: (
                types[node.type],
                [size if isinstance(size, int) else None for size in node.shape],
            )
            for node in nodes
        }

    inputs = described(session.get_inputs())
    outputs = described(session.get_outputs())

    def run(arrays: Arrays) -> Arrays:
        return dict(zip(outputs, session.run(list(outputs), arrays), strict=True))

    return run, inputs, outputs


def _open_openvino(path: Path) -> tuple[Function, Tensors, Tensors]:
    import openvino

    # By default OpenVINO rounds to bfloat16 on processors that support it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.compile_model(str(path), "CPU", exact)

    def described(ports: list) -> Tensors:
        return {
            port.any_name: (
                np.dtype(port.element_type.to_dtype()).name,
                [s.get_length() if s.is_static else None for s in port.partial_shape],
            )
            for port in ports
        }

    inputs, outputs = described(model.inputs), described(model.outputs)
    idle: list[Any] = []  # requests can't be shared by threads, and cost much to make

    def run(arrays: Arrays) -> Arrays:
        try:
            request = idle.pop()
        except IndexError:
            request = model.create_infer_request()
        answer = request.infer(arrays)
        found = {name: np.array(answer[name]) for name in outputs}
        idle.append(request)
        return found

    return run, inputs, outputs


def _definition(inputs: Tensors, outputs: Tensors) -> SignatureDef:
    def described(tensors: Tensors) -> dict[str, TensorInfo]:
        return {
            name: TensorInfo(
                name=f"{name}:0",
                dtype=tf.as_dtype(dtype).as_datatype_enum,
                tensor_shape=tf.TensorShape(shape).as_proto(),
            )
            for name, (dtype, shape) in tensors.items()
        }

    return SignatureDef(
        inputs=described(inputs),
        outputs=described(outputs),
        method_name="tensorflow/serving/predict",
    )


@functools.cache  # one for all versions, since TensorFlow keeps every function
def _decoder(size: int) -> Callable[[tf.Tensor], tf.Tensor]:
    specification = tf.TensorSpec((None,), tf.string)
    return tf.function(lambda c: pixels_of(c, size), input_signature=[specification])
