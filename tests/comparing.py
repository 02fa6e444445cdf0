"""Compares a model's endpoints, outputs and weights with another library's."""

import re

import keras
import numpy as np

# torchvision/models/googlenet.py: names that differ from ours by more than spelling
TORCHVISION_STEM = {
    "conv1_7x7_s2": "conv1",
    "conv2_3x3_reduce": "conv2",
    "conv2_3x3": "conv3",
}
TORCHVISION_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}


def endpoints(model, architecture, images) -> dict[str, np.ndarray]:
    """Computes the output of every stage and of the model for some pictures."""
    layers = {layer.name: layer for layer in model.layers}
    stages = {
        stage: layers.get(f"{stage}_relu", layers[stage]).output
        for stage in architecture.rows
    }
    values = keras.Model(model.input, stages | model.output).predict(images, verbose=0)
    return {name: np.asarray(value) for name, value in values.items()}


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the largest difference divided by the largest value."""
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def torchvision_state(model) -> dict:
    """The weights of a network without heads as torchvision's state dict.

    Written from torchvision's source, independently of our importer.
    """
    import torch

    state = {}
    for layer in model.layers:
        values = [np.array(weight) for weight in layer.get_weights()]
        if isinstance(layer, keras.layers.Conv2D):
            (kernel,) = values
            state[f"{torchvision_name(layer.name)}.conv.weight"] = kernel.transpose(
                3, 2, 0, 1
            )
        elif isinstance(layer, keras.layers.BatchNormalization):
            key = f"{torchvision_name(layer.name.removesuffix('_bn'))}.bn"
            names = ("weight", "bias", "running_mean", "running_var")
            state |= {f"{key}.{name}": v for name, v in zip(names, values, strict=True)}
        elif isinstance(layer, keras.layers.Dense):
            kernel, bias = values
            state |= {"fc.weight": kernel.T, "fc.bias": bias}
    return {name: torch.tensor(value.copy()) for name, value in state.items()}


def torchvision_name(convolution: str) -> str:
    """`inception_3a_5x5_reduce` is `inception3a.branch3.0` in torchvision."""
    if convolution in TORCHVISION_STEM:
        return TORCHVISION_STEM[convolution]
    block, part = re.fullmatch(r"inception_(\d\w)_(.+)", convolution).groups()
    return f"inception{block}.{TORCHVISION_BRANCHES[part]}"
