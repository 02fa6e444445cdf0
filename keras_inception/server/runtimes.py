"""Loads a version in the runtime that its files are for."""

from pathlib import Path

from keras_inception.server.runtime_files import load_file
from keras_inception.server.saved_models import Loaded, load_saved_model

# The file of a version by which its runtime is recognized
FILES = {"tensorflow": "saved_model.pb", "onnx": "model.onnx", "openvino": "model.xml"}


def runtime_of(path: Path) -> str | None:
    """The runtime that a version's files are for, or `None` if it has none of them."""
    if (path / "saved_model.pbtxt").is_file():
        return "tensorflow"
    found = (name for name, file in FILES.items() if (path / file).is_file())
    return next(found, None)


def load(path: Path, runtime: str | None = None) -> Loaded:
    """Loads a version in a runtime, by default the one that its files are for.

    Raises:
        FileNotFoundError: If the runtime's file is not there.
        RuntimeError: If the runtime is not installed, or can't load the file.
        tf.errors.OpError, ValueError: If TensorFlow can't load the SavedModel.
    """
    found = runtime_of(path)
    runtime = runtime or found or "tensorflow"
    if runtime != "tensorflow":
        if not (path / FILES[runtime]).is_file():
            other = f"; it has one for {found}" if found else ""
            raise FileNotFoundError(
                f"{path} has no {FILES[runtime]} for {runtime}{other}"
            )
        return load_file(path / FILES[runtime], runtime)
    if found != "tensorflow":
        raise FileNotFoundError(
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory "
            f"path: {path}. Check that the name of the directory that you specified is "
            "correct."
        )
    return load_saved_model(path)
