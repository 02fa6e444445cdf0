"""Opens the files for ONNX Runtime and OpenVINO, as functions of named arrays."""

import contextlib
import json
import queue
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_inception.files import plain_path

IMAGES, THRESHOLDS, EXIT = "images", "thresholds", "exit"
EXITS = "exits"  # the metadata entry of a file that holds its exits' thresholds

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


def open_session(path: str | Path, *, concurrent: bool = False) -> Session:
    """Opens an ONNX file in ONNX Runtime, or an OpenVINO file, by its suffix.

    Args:
        path: The file.
        concurrent: Whether OpenVINO computes calls of several threads at once, on a
            core each, instead of one after the other. A single call then takes a little
            longer. Defaults to False.

    Raises:
        ModuleNotFoundError: If the runtime is not installed.
        Exception: The runtime's own, if it can't load the file.
    """
    path = Path(path)
    with plain_path(path.parent) as folder:  # OpenVINO also reads model.bin there
        if path.suffix == ".onnx":
            return _open_onnx(str(folder / path.name))
        return _open_openvino(str(folder / path.name), concurrent)


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


def _open_openvino(path: str, concurrent: bool) -> Session:
    import openvino

    core = openvino.Core()
    read = core.read_model(path)
    kept = read.rt_info[EXITS].astype(str) if EXITS in read.rt_info else "{}"
    thresholds = json.loads(kept)
    # By default OpenVINO rounds to bfloat16 on processors that support it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    hint = {"PERFORMANCE_HINT": "THROUGHPUT" if concurrent else "LATENCY"}
    model = core.compile_model(read, "CPU", exact | hint)

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
    # Requests can't be shared by threads, and cost memory. With two for each stream,
    # one is prepared while the other computes.
    streams = model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(2 * streams if concurrent else 1):
        idle.put(model.create_infer_request())

    def run(arrays: Mapping[str, np.ndarray]) -> Arrays:
        images = arrays[IMAGES]
        taken = [idle.get()]
        try:
            with contextlib.suppress(queue.Empty):
                while len(taken) < len(images):
                    taken.append(idle.get_nowait())
            parts = np.array_split(images, len(taken))
            for request, part in zip(taken, parts, strict=True):
                request.start_async({**defaults, **arrays, IMAGES: part})
            for request in taken:
                request.wait()
            return {
                name: np.concatenate([r.get_tensor(name).data for r in taken])
                for name in outputs
            }
        finally:
            for request in taken:
                with contextlib.suppress(RuntimeError):  # raised above
                    request.wait()
                idle.put(request)

    return Session(run, inputs, outputs, thresholds)
