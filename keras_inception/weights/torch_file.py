"""Reads a PyTorch checkpoint or a safetensors file without torch and without its code.

A `.pth` file is a pickle, and unpickling can run any code that the file names.
`_Restricted` allows only the parts of a dictionary of tensors and raises an error that
names anything else. Both of torch's containers are supported: the zip file written
since 1.6, and the older stream, in which torchvision published its GoogLeNet in 2019.
"""

import collections
import io
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# torch/serialization.py: the first object of the older container
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
BFLOAT16 = "bfloat16"  # the upper half of a float32; NumPy does not have it

TYPES = (  # of torch, of safetensors, of NumPy
    ("DoubleStorage", "F64", "<f8"),
    ("FloatStorage", "F32", "<f4"),
    ("HalfStorage", "F16", "<f2"),
    ("BFloat16Storage", "BF16", BFLOAT16),
    ("LongStorage", "I64", "<i8"),
    ("IntStorage", "I32", "<i4"),
    ("ShortStorage", "I16", "<i2"),
    ("CharStorage", "I8", "<i1"),
    ("ByteStorage", "U8", "<u1"),
    ("BoolStorage", "BOOL", "?"),
)
STORAGE_TYPES = {torch: dtype for torch, _, dtype in TYPES}
SAFETENSORS_TYPES = {safetensors: dtype for _, safetensors, dtype in TYPES}


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a `.pth`, `.pt` or `.safetensors` file by name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The weights file {path} does not exist.")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        read = _read_zip if zipfile.is_zipfile(path) else _read_legacy
        content = read(path)
    except _NotAllowed as error:
        raise ValueError(f"{path} {error} It was not loaded.") from None
    except Exception as error:  # a broken pickle can raise any type
        raise ValueError(
            f"{path} can't be read as a PyTorch or safetensors file: it is truncated "
            f"or another kind of file ({type(error).__name__}: {error})."
        ) from None
    if not isinstance(content, dict) or not all(
        isinstance(value, np.ndarray) for value in content.values()
    ):
        raise ValueError(
            f"{path} is not a dictionary of tensors. Save model.state_dict() instead."
        )
    return dict(content)


class _NotAllowed(Exception):
    """Raised when a pickle asks for anything but the parts of a state dict."""


class _Storage(NamedTuple):
    """An array that tensors are views of; in the old container its bytes follow."""

    key: str
    dtype: str
    size: int


class _StorageType(NamedTuple):
    dtype: str


class _View(NamedTuple):
    """A tensor: its storage, start, shape and strides, all in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _View:
    return _View(storage, int(offset), tuple(shape), tuple(strides))


class _Restricted(pickle.Unpickler):
    """Unpickles dictionaries of tensors, and raises `_NotAllowed` for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in STORAGE_TYPES:
            return _StorageType(STORAGE_TYPES[name])
        raise _NotAllowed(
            f"is a pickle that asks for {module}.{name}, which a dictionary of tensors "
            "does not need and which may run code."
        )

    def persistent_load(self, reference: Any) -> _Storage:
        kind, storage_type, key, _, size, *_ = reference
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"unknown reference {reference!r}")
        return _Storage(str(key), storage_type.dtype, int(size))


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it does not contain one data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        content = _Restricted(io.BytesIO(archive.read(pickles[0]))).load()
        return _with_arrays(
            content, lambda storage: archive.read(f"{folder}data/{storage.key}")
        )


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        if _Restricted(file).load() != LEGACY_MAGIC:
            raise ValueError("it does not start like torch's files")
        _Restricted(file).load()  # version of the container
        _Restricted(file).load()  # properties of the machine that wrote it
        content = _Restricted(file).load()
        keys = _Restricted(file).load()
        views = [view for view in content.values() if isinstance(view, _View)]
        types = {view.storage.key: view.storage for view in views}
        pieces = {}
        for key in keys:
            storage = types[str(key)]
            file.read(8)  # the number of elements, which the pickle has, too
            pieces[storage.key] = file.read(storage.size * _width(storage.dtype))
    return _with_arrays(content, lambda storage: pieces[storage.key])


def _with_arrays(content: Any, bytes_of: Callable[[_Storage], bytes]) -> Any:
    """Replaces the views in an unpickled dictionary by arrays."""
    if not isinstance(content, dict):
        return content
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, value in content.items():
        if isinstance(value, _View):
            storage = value.storage
            if storage.key not in storages:
                storages[storage.key] = _array(bytes_of(storage), storage.dtype)
            value = _strided(storages[storage.key], value)
        arrays[str(name)] = value
    return arrays


def _strided(numbers: np.ndarray, view: _View) -> np.ndarray:
    pairs = zip(view.shape, view.strides, strict=True)
    last = view.offset + sum((size - 1) * stride for size, stride in pairs)
    if min((view.offset, *view.shape, *view.strides)) < 0 or last >= numbers.size:
        raise ValueError("a tensor is larger than its storage")
    strides = [stride * numbers.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(
        numbers[view.offset :], view.shape, strides, writeable=False
    )


def _width(dtype: str) -> int:
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def _array(data: bytes, dtype: str) -> np.ndarray:
    if dtype == BFLOAT16:
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, dtype)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads length, JSON header and numbers (github.com/huggingface/safetensors)."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        dtype, shape = SAFETENSORS_TYPES[entry["dtype"]], entry["shape"]
        begin, end = (start + offset for offset in entry["data_offsets"])
        if end > len(data) or end - begin != math.prod(shape) * _width(dtype):
            raise ValueError(f"the tensor {name} is not inside the file")
        tensors[name] = _array(data[begin:end], dtype).reshape(shape)
    return tensors
