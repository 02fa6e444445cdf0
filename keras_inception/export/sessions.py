"""Opens the files for ONNX Runtime and OpenVINO, as functions of named arrays."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_inception.files import plain_path

IMAGES, THRESHOLDS, EXIT = "images", "thresholds", "exit"
EXITS = "exits"  # the note in a file on its exits and their thresholds

Arrays = dict[str, np.ndarray]
Tensors = dict[str, tuple[str, list[int | None]]]  # type and shape by name


class Session(NamedTuple):
    """An opened file.

    Attributes:
        run: From inputs to outputs by name, called from many threads. `thresholds`
            may be left out.
        inputs: All but `thresholds`.
        outputs: All of them.
        thresholds: The calibrated ones by exit, in network order; empty without exits.
    """

    run: Callable[[Mapping[str, np.ndarray]], Arrays]
    inputs: Tensors
    outputs: Tensors
    thresholds: dict[str, float]


def open_session(path: str | Path) -> Session:
    """Opens an ONNX file in ONNX Runtime, or an OpenVINO file, by its suffix.

    Raises:
        ModuleNotFoundError: If the runtime is not installed.
        Exception: The runtime's own, if it can't load the file.
    """
    path = Path(path)
    with plain_path(path.parent) as folder:  # OpenVINO also reads model.bin there
        opener = _open_onnx if path.suffix == ".onnx" else _open_openvino
        return opener(str(folder / path.name))


def _open_onnx(path: str) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: a default of an input is a warning
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
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

    outputs = described(session.get_outputs())

    def run(arrays: Mapping[str, np.ndarray]) -> Arrays:
        return dict(zip(outputs, session.run(list(outputs), arrays), strict=True))

    kept = session.get_modelmeta().custom_metadata_map
    thresholds = json.loads(kept.get(EXITS, "{}"))
    return Session(run, described(session.get_inputs()), outputs, thresholds)


def _open_openvino(path: str) -> Session:
    import openvino

    core = openvino.Core()
    read = core.read_model(path)
    kept = read.rt_info[EXITS].astype(str) if EXITS in read.rt_info else "{}"
    thresholds = json.loads(kept)
    # By default OpenVINO rounds to bfloat16 on processors that support it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(read, "CPU", exact)

    def described(ports: list) -> Tensors:
        return {
            port.any_name: (
                np.dtype(port.element_type.to_dtype()).name,
                [s.get_length() if s.is_static else None for s in port.partial_shape],
            )
            for port in ports
        }

    inputs, outputs = described(model.inputs), described(model.outputs)
    # An input of OpenVINO has no default.
    defaults = {}
    if inputs.pop(THRESHOLDS, None):
        defaults = {THRESHOLDS: np.array([*thresholds.values()], "float32")}
    idle: list[Any] = []  # requests can't be shared by threads, and cost much to make

    def run(arrays: Mapping[str, np.ndarray]) -> Arrays:
        try:
            request = idle.pop()
        except IndexError:
            request = model.create_infer_request()
        answer = request.infer({**defaults, **arrays})
        found = {name: np.array(answer[name]) for name in outputs}
        idle.append(request)
        return found

    return Session(run, inputs, outputs, thresholds)
