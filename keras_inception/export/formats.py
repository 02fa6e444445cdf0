"""Exports to ONNX, OpenVINO and LiteRT, each compared with the model in its runtime."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_inception.batches import Dataset
from keras_inception.defaults import input_size_of
from keras_inception.early_exit import EarlyExit
from keras_inception.export.exits_file import write_exits
from keras_inception.export.folding import ConvolutionNormalization, FusedNormalization
from keras_inception.export.preparation import (
    check_backend,
    classifier_and_names,
    exits_of,
    write_labels,
)
from keras_inception.export.quantization import QUANTIZED
from keras_inception.export.sessions import IMAGES, open_session
from keras_inception.export.versioning import being_written, check_version, publish
from keras_inception.export.writers import (
    AnswersDiffer,
    Calibration,
    check_alike,
    write_main,
)
from keras_inception.files import plain_path
from keras_inception.layers import LocalResponseNormalization
from keras_inception.outputs import MAIN, main_of

Predict = Callable[[np.ndarray], np.ndarray]


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
    early_exit: EarlyExit | str | Path | None = None,
    held_out: Dataset | None = None,
) -> Path:
    """Writes the main output of a model for ONNX Runtime, OpenVINO or LiteRT.

    The file takes `images`, float32 raw RGB pixels 0..255, and returns `main`,
    probabilities; `labels.txt` beside it lists the class names. It is loaded in its
    runtime and compared with the model before the version appears.

    With `early_exit` the file also takes `thresholds`, float32 `(exits,)` in network
    order, and returns `exit`, int64 `(batch,)`, the index of the exit that answered,
    main last. Segments that no picture needs are skipped. In ONNX the thresholds
    default to the calibrated ones; `exits.json` beside the file holds them.

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
        early_exit: Exits of this model, or the file `exits.json` with them, for ONNX
            Runtime and OpenVINO. Defaults to none.
        held_out: Labeled pictures, as for `EarlyExit.calibrate`, on which the
            thresholds are chosen anew for the answers in integers: needed with both
            `calibration` and `early_exit`, and only then.

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
    _check_format(format, calibration is not None, early_exit is not None)
    if (held_out is not None) != (calibration is not None and early_exit is not None):
        raise ValueError(
            "held_out chooses thresholds for answers in 8-bit integers: pass it with "
            "calibration and early_exit, and only with both."
        )
    classifier, class_names = classifier_and_names(model, class_names)
    size = input_size_of(classifier)
    exits = exits_of(model, early_exit)
    check_version(directory, version)
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (3, size, size, 3)).astype("float32")
    expected = main_of(classifier.predict(images, verbose=0))
    file, normalization = FORMATS[format].file, FORMATS[format].normalization
    with being_written(directory) as partial:
        partial.mkdir()
        path = partial / file
        try:
            if exits is None:
                write_main(classifier, path, format, normalization, calibration)
                answers = FORMATS[format].open(str(path))(images)
                check_alike(answers, expected, format, exact=calibration is None)
            else:
                settings = normalization, calibration, held_out
                write_exits(exits, path, *settings).save(partial / "exits.json")
        except AnswersDiffer:
            raise
        except Exception as error:  # each exporter and runtime raises its own types
            raise RuntimeError(
                f"The model can't be exported as {format}: {type(error).__name__}: "
                f"{error}"
            ) from error
        write_labels(partial, class_names)
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


def _check_format(format: str, integers: bool, exits: bool) -> None:
    if format not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        raise ValueError(f"Unknown format {format!r}. Known: {known}")
    for wanted, subject in (
        (integers, "in 8-bit integers. With calibration pictures"),
        (exits, "with early exits. With them"),
    ):
        if wanted and format not in QUANTIZED:
            raise ValueError(
                f"{format} is not supported {subject} use one of: "
                f"{', '.join(QUANTIZED)}"
            )
    composed = integers or exits
    packages = QUANTIZED[format] if composed else FORMATS[format].packages
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        # OpenVINO's integers and exits are written by the packages of ONNX
        by_onnx = not {"tf2onnx", "onnxruntime"}.isdisjoint(missing)
        extras = {format, "onnx"} if by_onnx else {format}
        raise RuntimeError(
            f"The format {format} needs {' and '.join(missing)}, not installed here. "
            f"Install the extra: pip install '.[{','.join(sorted(extras))}]'"
        )
    check_backend(f"The format {format}")


def _open_session(path: str) -> Predict:
    session = open_session(path)
    return lambda images: session.run({IMAGES: images})[MAIN]


def _open_litert(path: str) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner("serving_default")
    return lambda images: runner(images=images)[MAIN]


FORMATS = {
    "onnx": Format(
        "model.onnx",
        ("tf2onnx", "onnxruntime"),
        _open_session,
        ConvolutionNormalization,
    ),
    "openvino": Format("model.xml", ("openvino",), _open_session, FusedNormalization),
    "litert": Format(
        "model.tflite", ("ai_edge_litert",), _open_litert, FusedNormalization
    ),
}
