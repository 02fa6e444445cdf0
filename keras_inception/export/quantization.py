"""Networks in 8-bit integers, their ranges measured on pictures after the training.

ONNX Runtime's quantiser does it: a pair of quantisation and its inverse around every
convolution and what lies between them, which ONNX Runtime and OpenVINO both turn into
integer kernels. Batch normalisation is folded before, and response normalisation, whose
squares no byte can hold, stays in float32.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

# What can write a format in integers
QUANTIZED = {
    "onnx": ("tf2onnx", "onnxruntime"),
    "openvino": ("tf2onnx", "onnxruntime", "openvino"),
}
_OPERATIONS = ["Conv", "MaxPool", "Concat", "MatMul", "Gemm"]


def write_quantized(
    model: keras.Model,
    path: Path,
    calibration: Iterable[np.ndarray],
    keep_floats: Sequence[str],
) -> None:
    """Writes a model in integers, as ONNX or, if the name ends so, OpenVINO's `.xml`.

    Args:
        model: With one input called `images`, without batch normalisation.
        path: `model.onnx` or `model.xml`.
        calibration: Batches of pictures, as the model takes them.
        keep_floats: Names of layers that stay in float32.

    Raises:
        ValueError: If there are no pictures.
    """
    import onnx
    from onnxruntime import quantization

    class Pictures(quantization.CalibrationDataReader):
        """Batches as the quantiser asks for them: one by one, then `None`."""

        def __init__(self, batches: Iterator[np.ndarray]):
            self.batches = batches

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"images": np.asarray(batch, "float32")}

    with tempfile.TemporaryDirectory() as folder:
        floats, integers = f"{folder}/float.onnx", f"{folder}/int8.onnx"
        model.export(floats, format="onnx", verbose=False)
        with _no_advice():
            quantization.quantize_static(
                floats,
                integers,
                Pictures(iter(calibration)),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_OPERATIONS,
                nodes_to_exclude=[
                    node.name
                    for node in onnx.load(floats).graph.node
                    if any(f"/{name}" in node.name for name in keep_floats)
                ],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        if path.suffix == ".onnx":
            path.write_bytes(Path(integers).read_bytes())
        else:
            import openvino

            openvino.save_model(openvino.convert_model(integers), path)


@contextlib.contextmanager
def _no_advice():
    """Holds back what the quantiser advises: to fold what has been folded already."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
