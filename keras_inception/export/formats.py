"""Other runtimes' formats, each compared with the model in its runtime."""

import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_inception.defaults import input_size_of
from keras_inception.export.folding import Convolved, OneOperation, for_runtimes
from keras_inception.export.quantization import QUANTIZED, write_quantized
from keras_inception.export.saved_model import (
    check_backend,
    main_and_names,
    write_labels,
)
from keras_inception.export.versioning import being_written, check_version, publish
from keras_inception.layers import LocalResponseNormalization
from keras_inception.outputs import MAIN


def export_format(
    model: keras.Model,
    directory: str | Path,
    format: str,
    *,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
    calibration: Iterable[np.ndarray] | None = None,
) -> Path:
    """Writes the main output of a model for ONNX Runtime, OpenVINO or LiteRT.

    The file takes `images`, float32 raw RGB pixels 0..255, and returns `main`,
    probabilities; `labels.txt` beside it names the classes. It is loaded in its runtime
    and compared with the model before the version appears.

    What is written answers as the model does, by steps that the runtime is fast at
    (`folding`). With `calibration` it computes in 8-bit integers, whose ranges are
    those that these pictures need: less exact, and faster where the processor has
    instructions for it.

    Args:
        model: A `DeeplySupervised` model, or a functional classifier of pictures with
            a single output.
        directory: Versions are written as numbers below it.
        format: `"onnx"`, `"openvino"` or `"litert"`.
        class_names: As for `export_saved_model`.
        version: A number that is not there yet; by default the highest plus one.
        calibration: Batches of pictures as the model takes them, a few hundred in all,
            for ONNX Runtime and OpenVINO. Defaults to none: float32.

    Returns:
        The file: `VERSION/model.onnx`, `VERSION/model.xml` (with `model.bin` beside it)
        or `VERSION/model.tflite`.

    Raises:
        ValueError: If there is no such format, or none of its in integers, or as for
            `export_saved_model`.
        FileExistsError: If the version exists already.
        RuntimeError: If what writes or runs the format is not installed or can't take
            this model, or if the runtime's answers differ from the model's.
    """
    if format not in FORMATS:
        raise ValueError(
            f"There is no format {format!r}. Known: {', '.join(sorted(FORMATS))}"
        )
    if calibration is not None and format not in QUANTIZED:
        raise ValueError(
            f"The format {format} is not written in 8-bit integers here. With "
            f"calibration pictures there are: {', '.join(QUANTIZED)}"
        )
    file, packages, open_it = FORMATS[format]
    _check_installed(format, packages if calibration is None else QUANTIZED[format])
    check_backend(f"The format {format}")
    main, class_names = main_and_names(model, class_names)
    side = input_size_of(main)
    check_version(directory, version)
    images = np.random.default_rng(0).uniform(0, 255, (3, side, side, 3))
    images = images.astype("float32")
    # The exporters take an input's name from its layer, and make up one for an output
    # that has none.
    inputs = keras.Input((side, side, 3), name="images")
    made = for_runtimes(main, NORMALIZATIONS[format])
    outputs = made(inputs)
    outputs = outputs if isinstance(outputs, dict) else {MAIN: outputs}
    named = keras.Model(inputs, {MAIN: outputs[MAIN]}, name=main.name)
    expected = main.predict(images, verbose=0)
    expected = expected[MAIN] if isinstance(expected, dict) else expected
    named(images[:1])  # Keras exports no model that was never called
    with being_written(directory) as partial:
        partial.mkdir()
        try:
            if calibration is not None:
                floats = [x.name for x in made.layers if _is_normalization(x)]
                write_quantized(named, partial / file, calibration, floats)
            elif format == "openvino":
                _write_openvino(named, partial / file)
            else:
                named.export(str(partial / file), format=format, verbose=False)
            answer = open_it(str(partial / file))(images)
        except Exception as error:  # each exporter and runtime has its own kinds
            raise RuntimeError(
                f"The model can't be exported as {format}: {type(error).__name__}: "
                f"{error}"
            ) from error
        write_labels(partial, class_names)
        worst = float(np.abs(answer - expected).max())
        # integers answer otherwise by design: how much, only labelled pictures tell
        if not worst < (1e-4 if calibration is None else 1):
            raise RuntimeError(
                f"{format} answers otherwise than the model: probabilities differ by "
                f"up to {worst:.1e}. Nothing was exported."
            )
        return publish(partial, directory, version) / file


def _is_normalization(layer) -> bool:
    return isinstance(layer, LocalResponseNormalization)


def _check_installed(format: str, packages: Sequence[str]) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        # integers for OpenVINO are written by what writes ONNX
        written_by_onnx = {"tf2onnx", "onnxruntime"} & set(missing)
        extras = {format} | ({"onnx"} if written_by_onnx else set())
        raise RuntimeError(
            f"The format {format} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'keras-inception[{','.join(sorted(extras))}]'"
        )


def _write_openvino(model: keras.Model, path: Path) -> None:
    """By OpenVINO's own converter: Keras's leaves a transposition at every pool."""
    import openvino

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, name="images")])
    def answer(images):
        return model(images, training=False)

    module = tf.Module()
    module.weights = list(answer.get_concrete_function().variables)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": answer})
        openvino.save_model(
            openvino.convert_model(folder), path, compress_to_fp16=False
        )


def open_file(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """An exported file in its runtime: from pixels `(batch, ...)` to probabilities.

    Args:
        path: What `export_format` returned.

    Raises:
        ValueError: If the file is none of these formats.
    """
    path = Path(path)
    for file, _, open_it in FORMATS.values():
        if path.name == file:
            return open_it(str(path))
    known = ", ".join(file for file, _, _ in FORMATS.values())
    raise ValueError(f"Expected a file called one of {known}. Received: {path}")


def _open_onnx(path: str) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([MAIN], {"images": images})[0]


def _open_openvino(path: str) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    # By default OpenVINO rounds to bfloat16 where the processor can.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(path, "CPU", exact)
    return lambda images: compiled({"images": images})[MAIN]


def _open_litert(path: str) -> Callable[[np.ndarray], np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner("serving_default")
    return lambda images: runner(images=images)[MAIN]


# format: (file, packages that write and run it, how it is opened)
FORMATS: dict[str, tuple[str, tuple[str, ...], Callable]] = {
    "onnx": ("model.onnx", ("tf2onnx", "onnxruntime"), _open_onnx),
    "openvino": ("model.xml", ("openvino",), _open_openvino),
    "litert": ("model.tflite", ("ai_edge_litert",), _open_litert),
}

# By which steps each computes response normalisation
NORMALIZATIONS = {
    "onnx": Convolved,
    "openvino": OneOperation,
    "litert": OneOperation,
}
