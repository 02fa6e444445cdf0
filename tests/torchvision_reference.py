"""Writes what torchvision's own network computes, for `test_weights_torchvision.py`.

    python tests/torchvision_reference.py FILE

A process of its own: beside a CUDA build of torch, torchvision imports triton, which
crashes a process that holds TensorFlow. FILE holds the state dict, the images and, with
and without `transform_input`, the output of every module in `MODULES`.
"""

import sys
from pathlib import Path

import numpy as np
import torch

STAGES = {
    "conv1_7x7_s2": "conv1",
    "conv2_3x3_reduce": "conv2",
    "conv2_3x3": "conv3",
    "pool1_3x3_s2": "maxpool1",
    "pool2_3x3_s2": "maxpool2",
    "pool3_3x3_s2": "maxpool3",
    "pool4_3x3_s2": "maxpool4",
    **{
        f"inception_{block}": f"inception{block}"
        for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    },
}
MODULES = STAGES | {"aux_4a": "aux1", "aux_4d": "aux2", "main": "fc"}
CLASSES = 7


def build_network(torchvision) -> torch.nn.Module:
    """torchvision's network with random weights and statistics."""
    torch.manual_seed(0)
    network = torchvision.models.googlenet(
        weights=None,
        init_weights=False,
        aux_logits=True,
        num_classes=CLASSES,
        transform_input=True,
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.2, 0.3)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.05, 0.3)
    return network.eval()


def outputs_of(network: torch.nn.Module, images: np.ndarray) -> dict[str, torch.Tensor]:
    """The output of every module, channels first."""
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        getattr(network, module).register_forward_hook(
            lambda _, __, output, name=name: seen.__setitem__(name, output)
        )
        for name, module in MODULES.items()
    ]
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    pixels = torch.tensor(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        network((pixels - mean) / deviation)
        # in its own forward pass the heads run with dropout and batch statistics only
        network.aux1(seen["inception_4a"])
        network.aux2(seen["inception_4d"])
    for hook in hooks:
        hook.remove()
    return seen


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from benchmarks.torchvision_import import import_torchvision

    network = build_network(import_torchvision())
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (2, 224, 224, 3)).astype("float32")
    outputs = {}
    for transform_input in (True, False):
        network.transform_input = transform_input
        outputs[str(transform_input)] = outputs_of(network, images)
    content = {"state": network.state_dict(), "images": torch.tensor(images)}
    torch.save(content | {"outputs": outputs}, sys.argv[1])
