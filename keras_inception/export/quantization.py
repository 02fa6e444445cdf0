"""Networks in 8-bit integers, whose ranges are calibrated on pictures after training.

ONNX Runtime's quantizer inserts pairs of quantization and dequantization around every
convolution and pool, which ONNX Runtime and OpenVINO both turn into integer kernels.
Batch normalization is folded before. Response normalization stays in float32, because
its squares do not fit into 8 bits.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

# format: the packages that write it in integers
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
    """Writes a model of `images`, without batch normalization, in 8-bit integers.

    The suffix of `path` decides the format: `.onnx`, or OpenVINO's `.xml`. The layers
    in `keep_floats` stay in float32.
    """
    import onnx
    from onnxruntime import quantization

    feeds = ({"images": np.asarray(batch, "float32")} for batch in calibration)

    class Pictures(quantization.CalibrationDataReader):
        """Gives the quantizer one batch at a time, then `None`."""

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

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
        if path.suffix == ".onnx":
            path.write_bytes(Path(integers).read_bytes())
        else:
            import openvino

            openvino.save_model(openvino.convert_model(integers), path)


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
