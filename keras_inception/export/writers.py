"""Writes a classifier, or a graph composed in ONNX, as a file for a runtime."""

import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_inception.export.folding import inference_model
from keras_inception.export.quantization import quantized
from keras_inception.export.sessions import IMAGES, THRESHOLDS
from keras_inception.layers import LocalResponseNormalization
from keras_inception.outputs import MAIN, main_of

if TYPE_CHECKING:
    import onnx

Calibration = Iterable[np.ndarray] | None
Normalization = type[LocalResponseNormalization]
TOLERANCE = 1e-4  # of probabilities


class AnswersDiffer(RuntimeError):
    """Raised when a written file does not answer as the model does."""


def write_main(
    classifier: keras.Model,
    path: Path,
    format: str,
    normalization: Normalization,
    calibration: Calibration,
) -> None:
    """Writes a single-output classifier, in integers if there are pictures."""
    made = inference_model(classifier, normalization)
    # The exporters name an input after its layer, and invent a name for an output that
    # is not in a dict.
    images = keras.Input(classifier.input.shape[1:], name=IMAGES)
    named = keras.Model(images, {MAIN: main_of(made(images))}, name=classifier.name)
    # Keras exports only a model that has been called.
    named(np.zeros((1, *images.shape[1:]), "float32"))
    if calibration is not None:
        feeds = ({IMAGES: np.asarray(batch, "float32")} for batch in calibration)
        save(exported(named, feeds, normalizations(made)), path)
    elif format == "openvino":
        _write_openvino(named, path)
    else:
        _export(named, path, format)


def check_alike(
    answers: np.ndarray, expected: np.ndarray, subject: str, exact: bool
) -> None:
    """Raises `AnswersDiffer` if a file's probabilities are not the model's.

    Integers differ by design; only labeled pictures show whether by too much.
    """
    worst = float(np.abs(answers - expected).max())
    if not worst < (TOLERANCE if exact else 1):
        raise AnswersDiffer(
            f"The answers of {subject} differ from the model's: probabilities by up "
            f"to {worst:.1e}. Nothing was exported."
        )


def exported(
    model: keras.Model,
    feeds: Iterable[Mapping[str, np.ndarray]] | None,
    keep_floats: Sequence[str],
) -> "onnx.ModelProto":
    """A model with named inputs and outputs as ONNX, in integers if there are feeds."""
    import onnx

    if feeds is not None:
        return quantized(model, feeds, keep_floats)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        _export(model, file, "onnx")
        return onnx.load(file)


def _export(model: keras.Model, path: Path, format: str) -> None:
    with warnings.catch_warnings():
        # tf2onnx, by way of keras, asks NumPy for a name that is gone.
        warnings.filterwarnings("ignore", ".*np.object", FutureWarning)
        model.export(str(path), format=format, verbose=False)


def normalizations(model: keras.Model) -> list[str]:
    """Names of the layers that stay in floats, because squares do not fit in 8 bits."""
    kind = LocalResponseNormalization
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


def save(
    model: "onnx.ModelProto", path: Path, notes: dict[str, str] | None = None
) -> None:
    """Saves an ONNX model, for OpenVINO if the suffix is `.xml`."""
    import onnx

    notes = notes or {}
    if path.suffix == ".onnx":
        onnx.helper.set_model_props(model, notes)
        onnx.save(model, path)
        return
    import openvino

    # OpenVINO would treat an input that has a default as a constant.
    for default in [c for c in model.graph.initializer if c.name == THRESHOLDS]:
        model.graph.initializer.remove(default)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, f"{folder}/model.onnx")
        converted = openvino.convert_model(f"{folder}/model.onnx")
    for name, note in notes.items():
        converted.set_rt_info(note, name)
    openvino.save_model(converted, path, compress_to_fp16=False)


def _write_openvino(model: keras.Model, path: Path) -> None:
    """Uses OpenVINO's own converter: Keras's leaves a transposition at every pool."""
    import openvino

    @tf.function(input_signature=[tf.TensorSpec(model.input.shape, name=IMAGES)])
    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return model(images, training=False)

    module = tf.Module()
    module.weights = list(answer.get_concrete_function().variables)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": answer})
        converted = openvino.convert_model(folder)
        openvino.save_model(converted, path, compress_to_fp16=False)
