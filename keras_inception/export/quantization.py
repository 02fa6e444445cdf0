"""Networks in 8-bit integers, whose ranges are calibrated on pictures after training.

ONNX Runtime's quantizer inserts pairs of quantization and dequantization around every
convolution and pool, which ONNX Runtime and OpenVINO both turn into integer kernels.
Batch normalization is folded before. Response normalization stays in float32, because
its squares do not fit into 8 bits.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

if TYPE_CHECKING:
    import onnx

# format: the packages that write it in integers, and with early exits
QUANTIZED = {
    "onnx": ("tf2onnx", "onnxruntime"),
    "openvino": ("tf2onnx", "onnxruntime", "openvino"),
}
_OPERATIONS = ["Conv", "MaxPool", "Concat", "MatMul", "Gemm"]


def quantized(
    model: keras.Model,
    feeds: Iterable[Mapping[str, np.ndarray]],
    keep_floats: Sequence[str],
) -> "onnx.ModelProto":
    """Converts a model without batch normalization to ONNX in 8-bit integers.

    `feeds` are batches of its inputs by name. The layers in `keep_floats` stay in
    float32.
    """
    import onnx
    from onnxruntime import quantization

    batches = iter(feeds)

    class Pictures(quantization.CalibrationDataReader):
        """Gives the quantizer one batch at a time, then `None`."""

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            return next(batches, None)

    with tempfile.TemporaryDirectory() as folder:
        floats, integers = f"{folder}/float.onnx", f"{folder}/int8.onnx"
        model.export(floats, format="onnx", verbose=False)
        names = [node.name for node in onnx.load(floats).graph.node]
        kept = [x for x in names if any(f"/{layer}" in x for layer in keep_floats)]
        with _warnings_hidden():
            quantization.quantize_static(
                floats,
                integers,
                Pictures(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_OPERATIONS,
                nodes_to_exclude=kept,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        return onnx.load(integers)


@contextlib.contextmanager
def _warnings_hidden() -> Iterator[None]:
    """Hides the quantizer's advice to fold batch normalization, which is folded."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
