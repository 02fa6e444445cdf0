"""Exports to ONNX, OpenVINO and LiteRT, each compared with the model in its runtime."""

import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_inception.defaults import input_size_of
from keras_inception.export.folding import (
    ConvolutionNormalization,
    FusedNormalization,
    inference_model,
)
from keras_inception.export.preparation import (
    check_backend,
    classifier_and_names,
    write_labels,
)
from keras_inception.export.quantization import QUANTIZED, write_quantized
from keras_inception.export.versioning import being_written, check_version, publish
from keras_inception.files import plain_path
from keras_inception.layers import LocalResponseNormalization
from keras_inception.outputs import MAIN, main_of

Predict = Callable[[np.ndarray], np.ndarray]
Calibration = Iterable[np.ndarray] | None


class Format(NamedTuple):
    """How a model is written for one runtime, and opened in it."""

    file: str
    packages: tuple[str, ...]  # import names of those that write and run it
    open: Callable[[str], Predict]
    normalization: type[LocalResponseNormalization]  # the one the runtime is fast at


def export_format(
    model: keras.Model,
    directory: str | Path,
    format: str,
    *,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
    calibration: Calibration = None,
) -> Path:
    """Writes the main output of a model for ONNX Runtime, OpenVINO or LiteRT.

    The file takes `images`, float32 raw RGB pixels 0..255, and returns `main`,
    probabilities; `labels.txt` beside it lists the class names. It is loaded in its
    runtime and compared with the model before the version appears.

    With `calibration` the file computes in 8-bit integers, whose ranges are measured on
    these pictures: less exact, and faster on processors with instructions for it.

    Args:
        model: A `DeeplySupervised` model, or a functional classifier of pictures with
            a single output.
        directory: Versions are written as numbered directories in it.
        format: `"onnx"`, `"openvino"` or `"litert"`.
        class_names: As for `export_saved_model`.
        version: A number from 1 that does not exist yet. Defaults to the highest plus
            one.
        calibration: Batches of pictures as the model takes them, a few hundred in all,
            for ONNX Runtime and OpenVINO. Defaults to none: float32.

    Returns:
        The file: `VERSION/model.onnx`, `VERSION/model.xml` (with `model.bin` beside it)
        or `VERSION/model.tflite`.

    Raises:
        ValueError: If the format is unknown, or not supported in integers, or as for
            `export_saved_model`.
        FileExistsError: If the version exists already.
        RuntimeError: If a package that writes or runs the format is not installed or
            does not support this model, or if the runtime's answers differ from the
            model's.
    """
    _check_format(format, calibration is not None)
    classifier, class_names = classifier_and_names(model, class_names)
    size = input_size_of(classifier)
    check_version(directory, version)
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (3, size, size, 3)).astype("float32")
    expected = main_of(classifier.predict(images, verbose=0))
    file = FORMATS[format].file
    with being_written(directory) as partial:
        partial.mkdir()
        try:
            _write(classifier, partial / file, format, calibration)
            answer = FORMATS[format].open(str(partial / file))(images)
        except Exception as error:  # each exporter and runtime raises its own types
            raise RuntimeError(
                f"The model can't be exported as {format}: {type(error).__name__}: "
                f"{error}"
            ) from error
        write_labels(partial, class_names)
        worst = float(np.abs(answer - expected).max())
        # integers differ by design; only labeled pictures show whether too much
        if not worst < (1e-4 if calibration is None else 1):
            raise RuntimeError(
                f"The answers of {format} differ from the model's: probabilities by up "
                f"to {worst:.1e}. Nothing was exported."
            )
        return publish(partial, directory, version) / file


def open_file(path: str | Path) -> Predict:
    """Opens an exported file: a function from pixels `(batch, ...)` to probabilities.

    Args:
        path: The file that `export_format` returned.

    Raises:
        ValueError: If the file does not have the name of one of the formats.
    """
    path = Path(path)
    openers = {known.file: known.open for known in FORMATS.values()}
    if path.name not in openers:
        names = ", ".join(openers)
        raise ValueError(f"Expected a file called one of {names}. Received: {path}")
    with plain_path(path.parent) as folder:  # OpenVINO also reads model.bin there
        return openers[path.name](str(folder / path.name))


def _check_format(format: str, integers: bool) -> None:
    if format not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        raise ValueError(f"Unknown format {format!r}. Known: {known}")
    if integers and format not in QUANTIZED:
        raise ValueError(
            f"{format} is not supported in 8-bit integers. With calibration pictures "
            f"use one of: {', '.join(QUANTIZED)}"
        )
    packages = QUANTIZED[format] if integers else FORMATS[format].packages
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        # integers for OpenVINO are written by the packages of ONNX
        by_onnx = not {"tf2onnx", "onnxruntime"}.isdisjoint(missing)
        extras = {format, "onnx"} if by_onnx else {format}
        raise RuntimeError(
            f"The format {format} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'keras-inception[{','.join(sorted(extras))}]'"
        )
    check_backend(f"The format {format}")


def _write(
    classifier: keras.Model, path: Path, format: str, calibration: Calibration
) -> None:
    made = inference_model(classifier, FORMATS[format].normalization)
    # The exporters name an input after its layer, and invent a name for an output that
    # is not in a dict.
    images = keras.Input(classifier.input.shape[1:], name="images")
    named = keras.Model(images, {MAIN: main_of(made(images))}, name=classifier.name)
    named(np.zeros((1, *images.shape[1:]), "float32"))  # else Keras does not export it
    if calibration is not None:
        kind = LocalResponseNormalization
        floats = [layer.name for layer in made.layers if isinstance(layer, kind)]
        write_quantized(named, path, calibration, floats)
    elif format == "openvino":
        _write_openvino(named, path)
    else:
        named.export(str(path), format=format, verbose=False)


def _write_openvino(model: keras.Model, path: Path) -> None:
    """Uses OpenVINO's own converter: Keras's leaves a transposition at every pool."""
    import openvino

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, name="images")])
    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return model(images, training=False)

    module = tf.Module()
    module.weights = list(answer.get_concrete_function().variables)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": answer})
        converted = openvino.convert_model(folder)
        openvino.save_model(converted, path, compress_to_fp16=False)


def _open_onnx(path: str) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([MAIN], {"images": images})[0]


def _open_openvino(path: str) -> Predict:
    import openvino

    # By default OpenVINO rounds to bfloat16 on processors that support it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(path, "CPU", exact)
    return lambda images: compiled({"images": images})[MAIN]


def _open_litert(path: str) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner("serving_default")
    return lambda images: runner(images=images)[MAIN]


FORMATS = {
    "onnx": Format(
        "model.onnx", ("tf2onnx", "onnxruntime"), _open_onnx, ConvolutionNormalization
    ),
    "openvino": Format("model.xml", ("openvino",), _open_openvino, FusedNormalization),
    "litert": Format(
        "model.tflite", ("ai_edge_litert",), _open_litert, FusedNormalization
    ),
}
