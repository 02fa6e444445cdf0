"""Other runtimes' formats, by Keras's own exporters, each compared in its runtime."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_inception.export.saved_model import (
    check_backend,
    main_and_names,
    write_labels,
)
from keras_inception.export.signatures import picture_side
from keras_inception.export.versioning import being_written, check_version, publish
from keras_inception.supervision import MAIN


def export_format(
    model: keras.Model,
    directory: str | Path,
    format: str,
    *,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
) -> Path:
    """Writes the main output of a model for ONNX Runtime, OpenVINO or LiteRT.

    The file takes `images`, float32 raw RGB pixels 0..255, and returns `main`,
    probabilities; `labels.txt` beside it names the classes. It is loaded in its runtime
    and compared with the model before the version appears.

    Args:
        model: A `DeeplySupervised` model, or a functional classifier of pictures with
            a single output.
        directory: Versions are written as numbers below it.
        format: `"onnx"`, `"openvino"` or `"litert"`.
        class_names: As for `export_saved_model`.
        version: A number that is not there yet; by default the highest plus one.

    Returns:
        The file: `VERSION/model.onnx`, `VERSION/model.xml` (with `model.bin` beside it)
        or `VERSION/model.tflite`.

    Raises:
        ValueError: If there is no such format, or as for `export_saved_model`.
        FileExistsError: If the version exists already.
        RuntimeError: If what writes or runs the format is not installed or can't take
            this model, or if the runtime's answers differ from the model's.
    """
    if format not in FORMATS:
        raise ValueError(
            f"There is no format {format!r}. Known: {', '.join(sorted(FORMATS))}"
        )
    file, packages, run = FORMATS[format]
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"The format {format} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'keras-inception[{format}]'"
        )
    check_backend(f"The format {format}")
    main, class_names = main_and_names(model, class_names)
    side = picture_side(main)
    check_version(directory, version)
    images = np.random.default_rng(0).uniform(0, 255, (3, side, side, 3))
    images = images.astype("float32")
    # The exporters take an input's name from its layer, and make up one for an output
    # that has none.
    inputs = keras.Input((side, side, 3), name="images")
    outputs = main(inputs)
    outputs = outputs if isinstance(outputs, dict) else {MAIN: outputs}
    named = keras.Model(inputs, {MAIN: outputs[MAIN]}, name=main.name)
    expected = named.predict(images, verbose=0)[MAIN]
    with being_written(directory) as partial:
        partial.mkdir()
        try:
            named.export(str(partial / file), format=format, verbose=False)
            answer = run(str(partial / file), images)
        except Exception as error:  # each exporter and runtime has its own kinds
            raise RuntimeError(
                f"The model can't be exported as {format}: {type(error).__name__}: "
                f"{error}"
            ) from error
        write_labels(partial, class_names)
        worst = float(np.abs(answer - expected).max())
        if not worst < 1e-4:
            raise RuntimeError(
                f"{format} answers otherwise than the model: probabilities differ by "
                f"up to {worst:.1e}. Nothing was exported."
            )
        return publish(partial, directory, version) / file


def _run_onnx(path: str, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run([MAIN], {"images": images})[0]


def _run_openvino(path: str, images: np.ndarray) -> np.ndarray:
    import openvino

    # By default OpenVINO rounds to bfloat16 where the processor can.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.compile_model(path, "CPU", exact)({"images": images})[MAIN]


def _run_litert(path: str, images: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner("serving_default")
    return runner(images=images)[MAIN]


# format: (file, packages that write and run it, how it is run)
FORMATS: dict[str, tuple[str, tuple[str, ...], Callable]] = {
    "onnx": ("model.onnx", ("tf2onnx", "onnxruntime"), _run_onnx),
    "openvino": ("model.xml", ("openvino",), _run_openvino),
    "litert": ("model.tflite", ("ai_edge_litert",), _run_litert),
}
