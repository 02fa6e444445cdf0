"""Loads BVLC's `bvlc_googlenet.caffemodel` and what was fine-tuned from it."""

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_inception.architecture import GOOGLENET
from keras_inception.network import build_network
from keras_inception.outputs import MAIN
from keras_inception.supervision import DeeplySupervised
from keras_inception.text import list_names
from keras_inception.weights.assign import (
    Assignment,
    assign,
    convolution_kernel,
    convolution_names,
    dense_kernel,
    dense_kernel_of_head,
)
from keras_inception.weights.caffe_file import Layer, read_layers
from keras_inception.weights.imagenet import imagenet_class_names
from keras_inception.weights.selection import (
    check_classes,
    keep_heads,
    rename_classifiers,
    without,
)

# models/bvlc_googlenet/train_val.prototxt
HEADS = {"loss1/": "aux_4a", "loss2/": "aux_4d"}
CLASSIFIERS = {MAIN: "loss3/classifier"}
CLASSIFIERS |= {output: f"{prefix}classifier" for prefix, output in HEADS.items()}
KERNEL, BIAS = ENDINGS = ("[0]", "[1]")  # order of a layer's blobs


def load_caffe(
    path: str | os.PathLike,
    *,
    auxiliary: Sequence[str] | None = None,
    classifier: str | Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
) -> DeeplySupervised:
    """Builds a Keras model with the weights of a Caffe GoogLeNet.

    Pictures stay RGB: the blue-green-red order of Caffe's pictures and the scale are
    folded into the first kernel, and the mean (104, 117, 123 of B, G, R) is inside the
    model. The model has as many classes as the file. A classifier that was renamed for
    fine-tuning is found by what it reads.

    Args:
        path: A `.caffemodel` or `.caffemodel.h5` file with BVLC's layer names, whose
            layers are of Caffe's first format (V1) or the current one.
        auxiliary: The heads to load, by endpoint or output; `()` for none. Defaults to
            those that the file has (`loss1/*`, `loss2/*`); BVLC's has both.
        classifier: The layer that is the classifier of `main`, or a dict from output to
            layer, where it can't be found. Defaults to BVLC's name, else the inner
            product that reads the same layers as BVLC's.
        ignore: Names of tensors to leave out, or patterns (`"loss3/color*"`). Defaults
            to none.

    Returns:
        A `DeeplySupervised` model for raw RGB pixels `(batch, 224, 224, 3)` in 0..255,
        not compiled; softmax outputs `main` and, with heads, `aux_4a` and `aux_4d`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file can't be read, a tensor is missing, unexpected or of
            another shape, the classifier can't be found, or heads have other classes
            than `main`.

    Source: Caffe's caffe.proto and models/bvlc_googlenet/train_val.prototxt.
    """
    source, layers = str(path), read_layers(path)
    tensors = {
        f"{layer.name}[{index}]": blob
        for layer in layers
        for index, blob in enumerate(layer.blobs)
    }
    tensors = without(tensors, ignore, source)
    tensors = rename_classifiers(
        tensors,
        CLASSIFIERS,
        ENDINGS,
        lambda name: _output_of(name, layers),
        classifier,
        source,
    )
    tensors, endpoints = keep_heads(tensors, HEADS, auxiliary, source)
    kernels = {
        output: None if kernel is None else _as_matrix(kernel)
        for output, name in CLASSIFIERS.items()
        for kernel in [tensors.get(f"{name}{KERNEL}")]
    }
    main = kernels[MAIN]
    if main is None or main.ndim != 2:
        raise ValueError(
            f"{path} is not BVLC's GoogLeNet: it lacks the kernel of the layer "
            "loss3/classifier, and no other layer classifies what pool5 makes. Its "
            f"layers: {list_names(layer.name for layer in layers if layer.blobs)}"
        )
    check_classes(kernels, source)
    classes = main.shape[0]
    model = build_network(GOOGLENET, classes=classes, auxiliary=endpoints)
    assign(model, _plan(model), tensors, source, list(HEADS))
    model.class_names = imagenet_class_names(classes)
    return model


def _output_of(name: str, layers: list[Layer]) -> str | None:
    """Finds the output that a classifier belongs to by the trained layers it reads.

    Without a graph in the file (HDF5) its name decides.
    """
    index = [layer.name for layer in layers].index(name)
    reads, waiting = set(), [(index, bottom) for bottom in layers[index].bottoms]
    while waiting:
        index, bottom = waiting.pop()
        # A layer may work in place; the last one before makes the value.
        makers = [at for at in range(index) if bottom in layers[at].tops]
        if makers and layers[makers[-1]].blobs:
            reads.add(layers[makers[-1]].name)
        elif makers:
            waiting += [(makers[-1], above) for above in layers[makers[-1]].bottoms]
    for prefix, output in HEADS.items():
        if f"{prefix}fc" in reads or (not reads and prefix[:-1] in name):
            return output
    of_main = all(layer.startswith("inception_5b/") for layer in reads)
    return MAIN if of_main else None


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
        plan.append(Assignment(found.kernel, f"{key}{KERNEL}", arrange))
        plan.append(Assignment(found.bias, f"{key}{BIAS}", _as_vector))

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
