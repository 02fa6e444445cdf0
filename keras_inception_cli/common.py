"""Loading a model, and checking options, for several commands."""

import argparse
import os
import zipfile
from typing import Any


def check_at_least(options: argparse.Namespace, least: dict[str, int]) -> None:
    """Raises a `ValueError` for options below their minimum, named as typed."""
    for name, value in least.items():
        if getattr(options, name) < value:
            raise ValueError(
                f"--{name.replace('_', '-')} must be at least {value}. Received: "
                f"{getattr(options, name)}"
            )


def check_folders(options: argparse.Namespace, *names: str) -> None:
    """Raises an `OSError` if an output file's folder is missing, before any work."""
    for name in names:
        path = getattr(options, name)
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(
                f"There is no folder {path.parent} for --{name.replace('_', '-')} "
                f"{path}. Create it first."
            )
        if path is not None and path.is_dir():
            raise IsADirectoryError(
                f"--{name.replace('_', '-')} names a file to write; {path} is a folder."
            )


def check_output_folder(options: argparse.Namespace, name: str = "output") -> None:
    """Raises a `NotADirectoryError` if an option that names a folder names a file."""
    path = getattr(options, name)
    if path is not None and path.exists() and not path.is_dir():
        raise NotADirectoryError(
            f"--{name} names a folder to write into; {path} is a file. Name another."
        )


def load_model(path: str, *, compiled: bool = True) -> Any:
    """Loads a `.keras` file, compiled as it was when saved, or not compiled.

    Raises:
        FileNotFoundError, ValueError: If there is no such file, or it is not a model,
            or damaged.
    """
    import keras

    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no model {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a .keras model file, as model.save() and keras-inception "
            "train write."
        )
    try:
        return keras.saving.load_model(path, compile=compiled)
    except Exception as error:  # Keras, h5py and zipfile raise their own types
        raise ValueError(
            f"{path} can't be loaded ({type(error).__name__}): {str(error)[:400]}"
        ) from error
