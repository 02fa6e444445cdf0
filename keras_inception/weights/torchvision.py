"""torchvision's `googlenet` in Keras: a port of TF-Slim's weights, with BN and 3x3."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from keras_inception.architecture import AUXILIARY_ENDPOINTS, GOOGLENET_TORCHVISION
from keras_inception.network import build_network
from keras_inception.supervision import DeeplySupervised
from keras_inception.weights.assign import (
    Wanted,
    as_is,
    convolution_kernel,
    convolution_names,
    dense_kernel,
    dense_kernel_after_flatten,
    place,
)
from keras_inception.weights.imagenet import imagenet_class_names
from keras_inception.weights.torch_file import read_tensors

# torchvision/models/googlenet.py: the names of an Inception's convolutions, as columns
PARTS = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
STEM = {"conv1_7x7_s2": "conv1", "conv2_3x3_reduce": "conv2", "conv2_3x3": "conv3"}
HEADS = {"aux1": "aux_4a", "aux2": "aux_4d"}
BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# What torchvision's transforms subtract and divide by (ImageNetClassification)
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])


def load_torchvision(
    path_or_state_dict: str | os.PathLike | Mapping[str, object],
    transform_input: bool = True,
) -> DeeplySupervised:
    """A Keras model with the weights of torchvision's `googlenet`.

    The classes are counted from the file. Heads are there if the file has them
    (`aux1.*`, `aux2.*`). torchvision's published weights have none that were trained.

    Args:
        path_or_state_dict: A `.pth` or `.safetensors` file, or a state dict of torch
            tensors or arrays. A file is read without running code from it.
        transform_input: torchvision's argument of this name: True for the published
            weights, which were trained on pixels in [-1, 1]; False for a network that
            was trained on torchvision's usual normalised pictures. Defaults to True.

    Returns:
        A `DeeplySupervised` model for raw RGB pixels `(batch, 224, 224, 3)` in 0..255,
        not compiled; softmax outputs `main`, and `aux_4a`, `aux_4d` where present.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file can't be read, is no dictionary of tensors, or a tensor
            is missing, left over or of another shape.

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
    # counts steps for a momentum that the network doesn't use
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
        # The deviations go into the first kernel; the means can't, since the padding
        # around the picture is zero after they are subtracted.
        architecture = dataclasses.replace(
            architecture, input_mean=tuple(255 * IMAGENET_MEAN)
        )
        factor = 1 / (255 * IMAGENET_DEVIATION * architecture.input_scale)

        def first_kernel(tensor):
            return convolution_kernel(tensor) * factor[:, None]

    model = build_network(
        architecture, classes=classes, auxiliary=auxiliary, batch_norm=True
    )
    plan = _plan(model, architecture, first_kernel)
    place(model, plan, tensors, source)
    model.class_names = imagenet_class_names(classes)
    return model


def _plan(model, architecture, first_kernel) -> list[Wanted]:
    plan = []

    def convolution(name, key, arrange=convolution_kernel):
        plan.append(Wanted(model.get_layer(name).kernel, f"{key}.conv.weight", arrange))
        norm = model.get_layer(f"{name}_bn")
        for ours, theirs in BATCH_NORM.items():
            plan.append(Wanted(getattr(norm, ours), f"{key}.bn.{theirs}", as_is))

    def dense(name, key, arrange=dense_kernel):
        layer = model.get_layer(name)
        plan.append(Wanted(layer.kernel, f"{key}.weight", arrange))
        plan.append(Wanted(layer.bias, f"{key}.bias", as_is))

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
