"""Loads BVLC's `bvlc_googlenet.caffemodel`, its two trained heads included.

The file is a protocol buffer. protobuf.dev/programming-guides/encoding: a message is a
series of fields, each a tag (number and wire type) and a value. The bytes do not say
what a value means.
"""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keras_inception.architecture import GOOGLENET
from keras_inception.network import build_network
from keras_inception.supervision import DeeplySupervised
from keras_inception.weights.assign import (
    Assignment,
    assign,
    convolution_kernel,
    convolution_names,
    dense_kernel,
    dense_kernel_of_head,
    heads_in,
)
from keras_inception.weights.imagenet import imagenet_class_names

VARINT, LENGTH = 0, 2  # wire types
FIXED = {1: 8, 5: 4}  # and their bytes
# caffe.proto: the fields (name, blobs) of a layer, by the field of NetParameter that
# holds layers. Field 2, V1LayerParameter, is that of files from before the end of 2014.
LAYERS = {2: (4, 6), 100: (1, 7)}
# BlobProto
OLD_SHAPE, DATA, SHAPE, DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8

# models/bvlc_googlenet/train_val.prototxt
HEADS = {"loss1/": "aux_4a", "loss2/": "aux_4d"}
KERNEL, BIAS = 0, 1  # order of a layer's blobs


def load_caffe(path: str | os.PathLike) -> DeeplySupervised:
    """Builds a Keras model with the weights of a Caffe GoogLeNet.

    Pictures stay RGB: the blue-green-red order of Caffe's pictures and the scale are
    folded into the first kernel, and the mean (104, 117, 123 of B, G, R) is inside the
    model. The model has the heads that the file has (`loss1/*`, `loss2/*`); BVLC's has
    both.

    Args:
        path: A `.caffemodel` file with BVLC's layer names, whose layers are of Caffe's
            first format (V1) or the current one.

    Returns:
        A `DeeplySupervised` model for raw RGB pixels `(batch, 224, 224, 3)` in 0..255,
        not compiled; softmax outputs `main` and, with heads, `aux_4a` and `aux_4d`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file can't be read, or a tensor is missing, unexpected or of
            another shape.

    Source: Caffe's caffe.proto and models/bvlc_googlenet/train_val.prototxt.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The weights file {path} does not exist.")
    try:
        tensors = read_blobs(memoryview(path.read_bytes()))
    except Truncated as error:
        raise ValueError(
            f"{path} can't be read as a .caffemodel: it is truncated or another kind "
            f"of file ({error})."
        ) from None
    classifier = tensors.get("loss3/classifier[0]")
    if classifier is None or _as_matrix(classifier).ndim != 2:
        raise ValueError(
            f"{path} is not BVLC's GoogLeNet: it lacks the kernel of the layer "
            "loss3/classifier. Only files with BVLC's layer names are supported."
        )
    classes = _as_matrix(classifier).shape[0]
    auxiliary = heads_in(HEADS, tensors)
    model = build_network(GOOGLENET, classes=classes, auxiliary=auxiliary)
    assign(model, _plan(model), tensors, str(path))
    model.class_names = imagenet_class_names(classes)
    return model


def read_blobs(net: memoryview) -> dict[str, np.ndarray]:
    """Returns the blobs of a binary NetParameter by `LAYER[index]`, as float32."""
    tensors: dict[str, np.ndarray] = {}
    for number, layer in fields(net):
        if number not in LAYERS or isinstance(layer, int):
            continue
        name_field, blobs_field = LAYERS[number]
        name, blobs = "", []
        for field, value in fields(layer):
            if field == name_field and not isinstance(value, int):
                name = bytes(value).decode("utf-8", "replace")
            elif field == blobs_field and not isinstance(value, int):
                blobs.append(_blob(value))
        tensors |= {f"{name}[{index}]": blob for index, blob in enumerate(blobs)}
    return tensors


def _blob(message: memoryview) -> np.ndarray:
    old_shape, shape, pieces = [1, 1, 1, 1], None, []
    for field, value in fields(message):
        if field in OLD_SHAPE and isinstance(value, int):
            old_shape[field - 1] = value
        elif isinstance(value, int):
            continue
        elif field == SHAPE:
            shape = [dim for _, dims in fields(value) for dim in _dims(dims)]
        elif field in (DATA, DOUBLE_DATA):
            dtype = "<f4" if field == DATA else "<f8"
            try:
                pieces.append(np.frombuffer(value, dtype))
            except ValueError as error:
                raise Truncated(str(error)) from None
    numbers = np.concatenate(pieces) if pieces else np.zeros(0, "float32")
    shape = old_shape if shape is None else shape
    if math.prod(shape) != numbers.size:
        raise Truncated(f"a blob of shape {shape} holds {numbers.size} numbers")
    return numbers.astype("float32", copy=False).reshape(shape)


def _dims(value: int | memoryview) -> list[int]:
    if isinstance(value, int):
        return [value]
    dims, at = [], 0
    while at < len(value):
        dim, at = varint(value, at)
        dims.append(dim)
    return dims


def _as_matrix(tensor: np.ndarray) -> np.ndarray:
    """Removes the leading ones of the old shape (1, 1, out, in)."""
    return tensor.reshape(tensor.shape[2:]) if tensor.shape[:2] == (1, 1) else tensor


def _as_vector(tensor: np.ndarray) -> np.ndarray:
    """Flattens a bias, whose old shape is (1, 1, 1, n)."""
    return tensor.reshape(-1) if tensor.size == max(tensor.shape) else tensor


def _first_kernel(tensor: np.ndarray) -> np.ndarray:
    """Converts a kernel for BGR pixels to one for RGB times `input_scale`."""
    return convolution_kernel(tensor)[:, :, ::-1] / GOOGLENET.input_scale


def _plan(model: DeeplySupervised) -> list[Assignment]:
    plan = []

    def layer(name: str, key: str, arrange: Callable) -> None:
        found = model.get_layer(name)
        plan.append(Assignment(found.kernel, f"{key}[{KERNEL}]", arrange))
        plan.append(Assignment(found.bias, f"{key}[{BIAS}]", _as_vector))

    def dense(name: str, key: str, arrange: Callable = dense_kernel) -> None:
        layer(name, key, lambda tensor: arrange(_as_matrix(tensor)))

    for stage, names in convolution_names(GOOGLENET).items():
        for name in names:
            first = name == "conv1_7x7_s2"
            # Our names are Caffe's with / as _. Caffe's group is the stage or, in the
            # stem, conv1 or conv2.
            group = stage if len(names) > 1 else stage.split("_", 1)[0]
            key = f"{group}/{name.removeprefix(f'{group}_')}"
            layer(name, key, _first_kernel if first else convolution_kernel)
    for prefix, head in HEADS.items():
        if head in model.heads:
            layer(f"{head}_conv", f"{prefix}conv", convolution_kernel)
            dense(f"{head}_fc", f"{prefix}fc", dense_kernel_of_head)
            dense(f"{head}_classifier", f"{prefix}classifier")
    dense("main_classifier", "loss3/classifier")
    return plan


class Truncated(ValueError):
    """Raised when bytes end within a field or are not a message."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields the fields of a message in order, as number and value.

    The value is an int (varint) or a view of the bytes (all other types: strings,
    messages, packed numbers, single floats).
    """
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == LENGTH:
            size, at = varint(message, at)
        elif kind in FIXED:
            size = FIXED[kind]
        else:
            raise Truncated(f"unknown wire type {kind} at byte {at}")
        if number == 0 or at + size > len(message):
            raise Truncated(f"field {number} is longer than the message")
        yield number, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Returns the number that starts at byte `at`, and the index after its end."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise Truncated("the bytes end within a number")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Truncated("a number has more than 10 bytes")
