"""Loads torchvision's `googlenet`, a port of TF-Slim's weights."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_inception.architecture import (
    AUXILIARY_ENDPOINTS,
    GOOGLENET_TORCHVISION,
    Architecture,
)
from keras_inception.network import build_network
from keras_inception.supervision import DeeplySupervised
from keras_inception.weights.assign import (
    Assignment,
    as_is,
    assign,
    convolution_kernel,
    convolution_names,
    dense_kernel,
    dense_kernel_after_flatten,
)
from keras_inception.weights.imagenet import imagenet_class_names
from keras_inception.weights.torch_file import read_tensors

# torchvision/models/googlenet.py: the convolutions of an Inception, in table order
PARTS = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
STEM = {"conv1_7x7_s2": "conv1", "conv2_3x3_reduce": "conv2", "conv2_3x3": "conv3"}
HEADS = {"aux1": "aux_4a", "aux2": "aux_4d"}
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
        source = "The state dict"
        tensors = {
            name: np.asarray(value.detach().cpu() if hasattr(value, "cpu") else value)
            for name, value in path_or_state_dict.items()
        }
    else:
        source = str(path_or_state_dict)
        tensors = read_tensors(path_or_state_dict)
    # Step counters, which the network does not use.
    tensors = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith(".num_batches_tracked")
    }
    if getattr(tensors.get("fc.weight"), "ndim", 0) != 2:
        raise ValueError(
            f"{source} is not torchvision's googlenet: it lacks the classifier "
            "fc.weight (classes, 1024)."
        )
    classes = tensors["fc.weight"].shape[0]
    auxiliary = [
        endpoint
        for prefix, endpoint in zip(HEADS, AUXILIARY_ENDPOINTS, strict=True)
        if any(name.startswith(f"{prefix}.") for name in tensors)
    ]
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
        architecture, classes=classes, auxiliary=auxiliary, batch_norm=True
    )
    plan = _plan(model, architecture, first_kernel)
    assign(model, plan, tensors, source)
    model.class_names = imagenet_class_names(classes)
    return model


def _plan(
    model: DeeplySupervised, architecture: Architecture, first_kernel: Callable
) -> list[Assignment]:
    plan = []

    def convolution(
        name: str, key: str, arrange: Callable = convolution_kernel
    ) -> None:
        kernel = model.get_layer(name).kernel
        plan.append(Assignment(kernel, f"{key}.conv.weight", arrange))
        norm = model.get_layer(f"{name}_bn")
        for ours, theirs in BATCH_NORM.items():
            plan.append(Assignment(getattr(norm, ours), f"{key}.bn.{theirs}", as_is))

    def dense(name: str, key: str, arrange: Callable = dense_kernel) -> None:
        layer = model.get_layer(name)
        plan.append(Assignment(layer.kernel, f"{key}.weight", arrange))
        plan.append(Assignment(layer.bias, f"{key}.bias", as_is))

    for stage, names in convolution_names(architecture).items():
        if stage in STEM:
            first = stage == "conv1_7x7_s2"
            convolution(
                stage, STEM[stage], first_kernel if first else convolution_kernel
            )
            continue
        for name, part in zip(names, PARTS, strict=True):
            convolution(name, f"{stage.replace('_', '')}.{part}")
    for prefix, head in HEADS.items():
        if head in model.heads:
            convolution(f"{head}_conv", f"{prefix}.conv")
            dense(f"{head}_fc", f"{prefix}.fc1", dense_kernel_after_flatten(4, 4))
            dense(f"{head}_classifier", f"{prefix}.fc2")
    dense("main_classifier", "fc")
    return plan
