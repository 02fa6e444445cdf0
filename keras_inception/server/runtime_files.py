"""Loads what `export --format` wrote for ONNX Runtime and OpenVINO.

They get the signatures that clients know from a SavedModel: `serving_default`, and
`serving_bytes`, whose pictures TensorFlow decodes as in a SavedModel. A file with early
exits also gets those with `early_exit` in their names; the others answer by main alone.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from keras_inception.export.sessions import (
    EXIT,
    IMAGES,
    THRESHOLDS,
    Session,
    Tensors,
    open_session,
)
from keras_inception.export.signatures import (
    DEFAULT,
    EARLY_EXIT,
    EARLY_EXIT_AT,
    IMAGE_BYTES,
    ON_FILES,
    pixels_of,
)
from keras_inception.outputs import MAIN
from keras_inception.server.batch_queue import Arrays
from keras_inception.server.graph_ops import GraphOps
from keras_inception.server.limits import ServingError
from keras_inception.server.saved_models import Function, Loaded

_DECODES = GraphOps(GraphDef(node=[NodeDef(op="DecodeImage")]))


def load_file(file: Path, runtime: str) -> Loaded:
    """Loads a file of `export --format`, and the `labels.txt` beside it.

    Raises:
        RuntimeError: If the runtime is not installed or can't load the file.
    """
    try:
        session = open_session(file, concurrent=True)
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"{runtime} needs {error.name}. Install the extra: pip install "
            f"'.[{runtime}]'"
        ) from None
    except Exception as error:  # each runtime raises its own types
        raise RuntimeError(f"{runtime} can't load {file}: {error}") from error

    inputs = session.inputs
    side = int(inputs[IMAGES][1][1] or 0)
    functions: dict[str, Function] = {}
    definitions: dict[str, SignatureDef] = {}
    labels = file.with_name("labels.txt")
    ranks = set(inputs) == {IMAGES} and labels.is_file()
    names = np.array(labels.read_bytes().splitlines() if ranks else [], object)
    for signature, (answer, takes, outputs) in _answers(session, side).items():
        functions[signature] = answer
        definitions[signature] = _definition({**inputs, **takes}, outputs)
        if ranks:
            of_files = ON_FILES[signature]
            functions[of_files] = _ranked(answer, names, side)
            ranking: Tensors = {
                "classes": ("string", [None, len(names)]),
                "scores": ("float32", [None, len(names)]),
                **{key: value for key, value in outputs.items() if key != MAIN},
            }
            definitions[of_files] = _definition(
                {IMAGE_BYTES: ("string", [None]), **takes}, ranking
            )
    return Loaded(
        functions,
        definitions,
        set(functions),
        _DECODES,
        lambda: None,
        # OpenVINO computes one request on each core at the same time
        combines=runtime != "openvino",
    )


def _answers(
    session: Session, side: int
) -> dict[str, tuple[Function, Tensors, Tensors]]:
    """The functions of images, their other inputs, and their outputs, by signature."""

    def checked(arrays: Arrays) -> Arrays:
        for key, (_, shape) in session.inputs.items():
            if not tf.TensorShape(shape).is_compatible_with(arrays[key].shape):
                raise ServingError(
                    f"{key} has shape {list(arrays[key].shape)}; the model takes "
                    f"{shape}"
                )
        if len(arrays[IMAGES]) == 0:  # not every runtime accepts an empty batch
            one = {**arrays, IMAGES: np.zeros((1, side, side, 3), "float32")}
            return {key: array[:0] for key, array in session.run(one).items()}
        return session.run(arrays)

    outputs = dict(session.outputs)
    if outputs.pop(EXIT, None) is None:
        return {DEFAULT: (checked, {}, outputs)}
    exits = np.array([name.encode() for name in (*session.thresholds, MAIN)], object)
    never = np.full(len(session.thresholds), np.inf, "float32")
    calibrated = np.array([*session.thresholds.values()], "float32")

    def main_alone(arrays: Arrays) -> Arrays:
        answer = checked({**arrays, THRESHOLDS: never})
        return {key: answer[key] for key in outputs}

    def early(arrays: Arrays) -> Arrays:
        answer = checked(arrays)
        return {**answer, EXIT: exits[answer[EXIT]]}

    def early_at(arrays: Arrays) -> Arrays:
        images, given = arrays[IMAGES], arrays[THRESHOLDS]
        if given.shape != (len(images), len(calibrated)):
            raise ServingError(
                f"thresholds has shape {list(given.shape)}; for {len(images)} pictures "
                f"the model takes {[len(images), len(calibrated)]}"
            )
        if len(images) == 0:
            return early({IMAGES: images, THRESHOLDS: calibrated})
        # The file takes one row of thresholds for all pictures; requests usually do so.
        levels, which = np.unique(given, axis=0, return_inverse=True)
        groups = [np.flatnonzero(which.ravel() == i) for i in range(len(levels))]
        answers = [
            early({IMAGES: images[rows], THRESHOLDS: level})
            for rows, level in zip(groups, levels, strict=True)
        ]
        order = np.argsort(np.concatenate(groups))
        return {
            key: np.concatenate([answer[key] for answer in answers])[order]
            for key in answers[0]
        }

    with_exit: Tensors = {**outputs, EXIT: ("string", [None])}
    thresholds: Tensors = {THRESHOLDS: ("float32", [None, len(calibrated)])}
    return {
        DEFAULT: (main_alone, {}, outputs),
        EARLY_EXIT: (early, {}, with_exit),
        EARLY_EXIT_AT: (early_at, thresholds, with_exit),
    }


def _ranked(answer: Function, names: np.ndarray, side: int) -> Function:
    """From picture files to class names and scores, best first."""
    decoded = _decoder(side)

    def ranked(arrays: Arrays) -> Arrays:
        given = dict(arrays)
        images = decoded(tf.constant(given.pop(IMAGE_BYTES), tf.string)).numpy()
        rest = answer({IMAGES: images, **given})
        scores = rest.pop(MAIN)
        order = np.argsort(-scores, axis=-1, kind="stable")
        best = np.take_along_axis(scores, order, -1)
        return {"classes": names[order], "scores": best, **rest}

    return ranked


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
