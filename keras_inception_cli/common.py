"""Loading a model, and checking options, for several commands."""

import argparse
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


def load_model(path: str) -> Any:
    """`networks.load_model`, imported only when called, since that takes seconds."""
    from keras_inception import networks

    return networks.load_model(path)
