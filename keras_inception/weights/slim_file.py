"""Reads the tensors of a TensorFlow checkpoint, however it is pointed at."""

import contextlib
import glob
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.files import is_plain, plain_path
from keras_inception.text import list_names

# one of the files of a checkpoint
PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
# what `tf.train.Checkpoint` adds to the path of an object
OF_OBJECTS = "/.ATTRIBUTES/VARIABLE_VALUE"


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the numbers in a TensorFlow checkpoint by name.

    `path` is a prefix, one of the checkpoint's files, the file `checkpoint` or its
    directory.
    """
    prefix, tf = _prefix(Path(path)), _tensorflow()
    try:
        with _plain_prefix(prefix) as plain:
            reader = tf.train.load_checkpoint(str(plain))
            types = reader.get_variable_to_dtype_map()
            return {
                _variable(name): reader.get_tensor(name)
                for name, dtype in types.items()
                if dtype != tf.string
            }
    # The types that TensorFlow's reader raises are not documented.
    except Exception as error:
        raise ValueError(
            f"{path} can't be read as a TensorFlow checkpoint: it is truncated or "
            f"another kind of file ({type(error).__name__})."
        ) from None


@contextlib.contextmanager
def _plain_prefix(prefix: Path) -> Iterator[Path]:
    """Yields another prefix of the same files if TensorFlow can't take this one."""
    if is_plain(prefix):
        yield prefix
        return
    with tempfile.TemporaryDirectory() as folder:
        for file in prefix.parent.iterdir():
            if PART.sub("", file.name) == prefix.name:
                suffix = file.name.removeprefix(prefix.name)
                Path(folder, f"weights{suffix}").symlink_to(file.absolute())
        yield Path(folder, "weights")


def _variable(name: str) -> str:
    """Removes what `tf.train.Checkpoint` adds to names, and its escapes."""
    if not name.endswith(OF_OBJECTS):
        return name
    return re.sub(
        r"\.([.S])",
        lambda found: "/" if found[1] == "S" else ".",
        name.removesuffix(OF_OBJECTS),
    )


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError:
        raise ImportError(
            "Reading a TF-Slim checkpoint needs TensorFlow, which is not installed. "
            "Run: pip install tensorflow"
        ) from None
    return tensorflow


def _prefix(path: Path) -> Path:
    """Finds the checkpoint that `path` points at."""
    if path.is_dir():
        return _last(path)
    if path.name == "checkpoint" and path.is_file():
        return _last(path.parent)
    prefix = path
    if PART.search(path.name):
        prefix = path.with_name(PART.sub("", path.name))
    index = prefix.with_name(f"{prefix.name}.index")
    if not prefix.is_file() and not index.is_file():
        beside = list_names(_prefixes(path.parent))
        raise FileNotFoundError(
            f"The checkpoint {path} does not exist (nor does {index}). Pass the "
            ".ckpt file or the prefix of the .index and .data files. Checkpoints in "
            f"{path.parent}: {beside}"
        )
    data = f"{glob.escape(prefix.name)}.data-*"
    if not prefix.is_file() and not [*path.parent.glob(data)]:
        raise FileNotFoundError(
            f"The checkpoint {prefix} has no .data file beside {index}: copy "
            f"{prefix.name}.data-00000-of-00001 there."
        )
    return prefix


def _last(directory: Path) -> Path:
    """Finds the last checkpoint of a training, also if its directory was moved."""
    with plain_path(directory) as plain:
        state = _tensorflow().train.get_checkpoint_state(str(plain))
    prefixes = _prefixes(directory)
    if state is not None:
        name = Path(state.model_checkpoint_path).name
    elif len(prefixes) == 1:
        (name,) = prefixes
    else:
        raise FileNotFoundError(
            f"{directory} has no file called checkpoint, which names the last one. "
            f"Pass one of its checkpoints: {list_names(prefixes)}"
        )
    return _prefix(directory / name)


def _prefixes(directory: Path) -> list[str]:
    return sorted(
        path.name.removesuffix(".index") for path in directory.glob("*.index")
    )
