"""Reads a PyTorch checkpoint or a safetensors file without torch and without its code.

A `.pth` file is a pickle, and unpickling can run any code that the file names.
`_Restricted` makes only the parts of dictionaries of tensors; anything else becomes an
`Unread`, which has a name and does nothing. Both of torch's containers are supported:
the zip file written since 1.6, and the older stream, in which torchvision published its
GoogLeNet in 2019.
"""

import collections
import io
import json
import math
import os
import pickle
import zipfile
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


def read_tensors(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the tensors of a `.pth`, `.pt` or `.safetensors` file by name.

    A checkpoint of a training is a dictionary that has such dictionaries inside. Values
    other than tensors stay as they are; objects of unknown classes are an `Unread`.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a directory" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"The weights file {path} {kind}.")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        read = _read_zip if zipfile.is_zipfile(path) else _read_legacy
        content = read(path)
    except Exception as error:  # a broken pickle can raise any type
        raise ValueError(
            f"{path} can't be read as a PyTorch or safetensors file: it is truncated "
            f"or another kind of file ({type(error).__name__}: {error})."
        ) from None
    check_read(content, str(path))
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is not a dictionary of tensors. Save model.state_dict() instead."
        )
    return content


class Unread:
    """An object whose class a file names; it is not made and its state is dropped."""

    asked = ""  # the name of the class

    def __new__(cls, *args: Any, **kwargs: Any) -> "Unread":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _drop(self, *args: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _drop


def check_read(value: Any, source: str) -> None:
    """Raises an error if a value that is needed is an `Unread`."""
    if isinstance(value, Unread):
        raise ValueError(
            f"{source} is a pickle that asks for {value.asked}, which a dictionary of "
            "tensors does not need and which may run code. It was not loaded. Save the "
            "tensors alone: torch.save(model.state_dict(), FILE)."
        )


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


def _rebuild_tensor(storage, offset, shape, strides, *_) -> Any:
    if not isinstance(storage, _Storage):
        return storage
    return _View(storage, int(offset), tuple(shape), tuple(strides))


# The classes and functions that the pickle of a dictionary of tensors names.
MADE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda rebuild, _, args, __: rebuild(
        *args
    ),
}


class _Restricted(pickle.Unpickler):
    """Unpickles dictionaries of tensors, and notes their `storages`."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGE_TYPES:
            return _StorageType(STORAGE_TYPES[name])
        if (made := MADE.get((module, name))) is not None:
            return made
        return type(name, (Unread,), {"asked": f"{module}.{name}"})

    def persistent_load(self, reference: Any) -> Any:
        kind, storage_type, *rest = reference
        if kind == "module":  # the old container's class and source of a module
            return storage_type
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"unknown reference {reference!r}")
        key, _, size, *_ = rest
        storage = _Storage(str(key), storage_type.dtype, int(size))
        return self.storages.setdefault(storage.key, storage)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it does not contain one data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        pickled = _Restricted(io.BytesIO(archive.read(pickles[0])))
        content = pickled.load()
        arrays = {
            key: _array(archive.read(f"{folder}data/{key}"), storage.dtype)
            for key, storage in pickled.storages.items()
        }
    return _with_arrays(content, arrays)


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        if (magic := _Restricted(file).load()) != LEGACY_MAGIC:
            if isinstance(magic, dict):  # a pickle of another library
                return magic
            raise ValueError("it does not start like torch's files")
        _Restricted(file).load()  # version of the container
        _Restricted(file).load()  # properties of the machine that wrote it
        pickled = _Restricted(file)
        content = pickled.load()
        arrays = {}
        for key in map(str, _Restricted(file).load()):
            storage = pickled.storages[key]
            file.read(8)  # the number of elements, which the pickle has, too
            data = file.read(storage.size * _width(storage.dtype))
            arrays[key] = _array(data, storage.dtype)
    return _with_arrays(content, arrays)


def _with_arrays(content: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Replaces the views in unpickled dictionaries by arrays."""
    if isinstance(content, dict):
        return {str(name): _with_arrays(x, arrays) for name, x in content.items()}
    if isinstance(content, _View):
        return _strided(arrays[content.storage.key], content)
    return content


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
