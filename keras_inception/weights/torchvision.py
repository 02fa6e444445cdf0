"""Loads torchvision's `googlenet`, a port of TF-Slim's weights."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_inception.architecture import GOOGLENET_TORCHVISION
from keras_inception.network import build_network
from keras_inception.supervision import DeeplySupervised
from keras_inception.weights.assign import (
    Arrange,
    Assignment,
    assign,
    convolution_kernel,
    convolution_names,
    dense_kernel,
    dense_kernel_of_head,
    heads_in,
)
from keras_inception.weights.imagenet import imagenet_class_names
from keras_inception.weights.torch_file import read_tensors

# torchvision/models/googlenet.py: the convolutions of an Inception, in table order
PARTS = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
HEADS = {"aux1.": "aux_4a", "aux2.": "aux_4d"}
BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# torchvision's transforms (ImageNetClassification) subtract and divide by these.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])


def load_torchvision(
    path_or_state_dict: str | os.PathLike | Mapping[str, Any],
    transform_input: bool = True,
) -> DeeplySupervised:
    """Builds a Keras model with the weights of torchvision's `googlenet`.

    The model has as many classes as the file, and the heads that the file has
    (`aux1.*`, `aux2.*`). torchvision's published file has no trained heads.

    Args:
        path_or_state_dict: A `.pth` or `.safetensors` file, or a state dict of torch
            tensors or arrays. A file is read without running code from it.
        transform_input: torchvision's argument of this name: True for the published
            weights, which were trained on pixels in [-1, 1]; False for a network that
            was trained on torchvision's usual normalized pictures. Defaults to True.

    Returns:
        A `DeeplySupervised` model for raw RGB pixels `(batch, 224, 224, 3)` in 0..255,
        not compiled; softmax outputs `main` and, with heads, `aux_4a` and `aux_4d`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file can't be read or is not a dictionary of tensors, or a
            tensor is missing, unexpected or of another shape.

    Source: torchvision/models/googlenet.py.
    """
    if isinstance(path_or_state_dict, Mapping):
        source, given = "The state dict", dict[str, Any](path_or_state_dict)
    else:
        source, given = str(path_or_state_dict), read_tensors(path_or_state_dict)
    tensors = {
        name: np.asarray(value.detach().cpu() if hasattr(value, "cpu") else value)
        for name, value in given.items()
        if not name.endswith(".num_batches_tracked")  # steps; the network has none
    }
    if getattr(tensors.get("fc.weight"), "ndim", 0) != 2:
        raise ValueError(
            f"{source} is not torchvision's googlenet: it lacks the classifier "
            "fc.weight (classes, 1024)."
        )
    classes = tensors["fc.weight"].shape[0]
    architecture, first_kernel = GOOGLENET_TORCHVISION, convolution_kernel
    if not transform_input:
        # The deviations are folded into the first kernel. The means can't be, since
        # the padding around the picture is zero after their subtraction.
        architecture = dataclasses.replace(
            architecture, input_mean=tuple(255 * IMAGENET_MEAN)
        )
        factor = 1 / (255 * IMAGENET_DEVIATION * architecture.input_scale)

        def first_kernel(tensor: np.ndarray) -> np.ndarray:
            return convolution_kernel(tensor) * factor[:, None]

    model = build_network(
        architecture,
        classes=classes,
        auxiliary=heads_in(HEADS, tensors),
        batch_norm=True,
    )
    assign(model, _plan(model, first_kernel), tensors, source)
    model.class_names = imagenet_class_names(classes)
    return model


def _plan(model: DeeplySupervised, first_kernel: Arrange) -> list[Assignment]:
    plan = []

    def convolution(name: str, key: str, arrange: Arrange = convolution_kernel) -> None:
        kernel = model.get_layer(name).kernel
        plan.append(Assignment(kernel, f"{key}.conv.weight", arrange))
        norm = model.get_layer(f"{name}_bn")
        for ours, theirs in BATCH_NORM.items():
            plan.append(Assignment(getattr(norm, ours), f"{key}.bn.{theirs}"))

    def dense(name: str, key: str, arrange: Arrange = dense_kernel) -> None:
        layer = model.get_layer(name)
        plan.append(Assignment(layer.kernel, f"{key}.weight", arrange))
        plan.append(Assignment(layer.bias, f"{key}.bias"))

    convolution("conv1_7x7_s2", "conv1", first_kernel)
    convolution("conv2_3x3_reduce", "conv2")
    convolution("conv2_3x3", "conv3")
    for stage, names in convolution_names(GOOGLENET_TORCHVISION).items():
        if len(names) > 1:
            for name, part in zip(names, PARTS, strict=True):
                convolution(name, f"{stage.replace('_', '')}.{part}")
    for prefix, head in HEADS.items():
        if head in model.heads:
            convolution(f"{head}_conv", f"{prefix}conv")
            dense(f"{head}_fc", f"{prefix}fc1", dense_kernel_of_head)
            dense(f"{head}_classifier", f"{prefix}fc2")
    dense("main_classifier", "fc")
    return plan
