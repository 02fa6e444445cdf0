"""Loads torchvision's `googlenet`, and what was trained from it."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_inception.architecture import GOOGLENET_TORCHVISION
from keras_inception.network import build_network
from keras_inception.outputs import MAIN
from keras_inception.supervision import DeeplySupervised
from keras_inception.text import list_names
from keras_inception.weights.assign import (
    Arrange,
    Assignment,
    assign,
    convolution_kernel,
    convolution_names,
    dense_kernel,
    dense_kernel_of_head,
)
from keras_inception.weights.imagenet import imagenet_class_names
from keras_inception.weights.selection import (
    check_classes,
    is_average,
    keep_heads,
    log_left_out,
    logger,
    rename_classifiers,
    scopes_in,
    without,
)
from keras_inception.weights.torch_file import check_read, read_tensors

# torchvision/models/googlenet.py: the convolutions of an Inception, in table order
PARTS = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
HEADS = {"aux1.": "aux_4a", "aux2.": "aux_4d"}
CLASSIFIERS = {MAIN: "fc"} | {head: f"{prefix}fc2" for prefix, head in HEADS.items()}
ENDINGS = (".weight", ".bias")
LANDMARKS = ("conv1.conv.weight", "inception5b.branch1.conv.weight")
# what torch.compile, DataParallel and FSDP put into names
WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
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
    *,
    auxiliary: Sequence[str] | None = None,
    averages: bool = False,
    classifier: str | Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
) -> DeeplySupervised:
    """Builds a Keras model with the weights of torchvision's `googlenet`.

    The model has as many classes as the file. The network may be below wrappers
    (`module.`, `_orig_mod.`, `model.backbone.`) and in a checkpoint of a training
    (`{"state_dict": ..., "optimizer": ...}`), whose other entries are left out.

    Args:
        path_or_state_dict: A `.pth` or `.safetensors` file, or a state dict of torch
            tensors or arrays. A file is read without running code from it.
        transform_input: torchvision's argument of this name: True for the published
            weights, which were trained on pixels in [-1, 1]; False for a network that
            was trained on torchvision's usual normalized pictures. Defaults to True.
        auxiliary: The heads to load, by endpoint or output; `()` for none. Defaults to
            those that the file has (`aux1.*`, `aux2.*`). torchvision's published file
            has no trained heads.
        averages: Whether to load the averaged weights of a checkpoint that has both
            (`{"model": ..., "model_ema": ...}`). Defaults to False.
        classifier: The linear layer that is the classifier of `main`, or a dict from
            output to layer, where it can't be found. Defaults to `fc`, else the only
            layer of its shape, such as `fc.1`.
        ignore: Names or scopes of tensors to leave out, or patterns. Defaults to none.

    Returns:
        A `DeeplySupervised` model for raw RGB pixels `(batch, 224, 224, 3)` in 0..255,
        not compiled; softmax outputs `main` and, with heads, `aux_4a` and `aux_4d`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file can't be read or is not a dictionary of tensors, a
            tensor is missing, unexpected or of another shape, heads have other classes
            than `main`, or there are several networks or no averages.

    Source: torchvision/models/googlenet.py.
    """
    if isinstance(path_or_state_dict, Mapping):
        source, content = "The state dict", path_or_state_dict
    else:
        source, content = str(path_or_state_dict), read_tensors(path_or_state_dict)
    tensors = without(_network_tensors(content, averages, source), ignore, source)
    tensors = rename_classifiers(
        tensors, CLASSIFIERS, ENDINGS, _output_of, classifier, source
    )
    tensors, endpoints = keep_heads(tensors, HEADS, auxiliary, source)
    kernels = {x: tensors.get(f"{name}.weight") for x, name in CLASSIFIERS.items()}
    main = kernels[MAIN]
    if main is None or main.ndim != 2:
        raise ValueError(
            f"{source} is not torchvision's googlenet: it lacks the classifier "
            f"fc.weight (classes, 1024). It has: {list_names(tensors)}"
        )
    check_classes(kernels, source)
    classes = main.shape[0]
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
        auxiliary=endpoints,
        batch_norm=True,
    )
    assign(model, _plan(model, first_kernel), tensors, source, list(HEADS))
    model.class_names = imagenet_class_names(classes)
    return model


class _Network(NamedTuple):
    """A network in a checkpoint: its place, and the tensors of the same dictionary."""

    place: str
    prefix: str
    values: Mapping[str, Any]

    @property
    def is_average(self) -> bool:
        return any(map(is_average, self.place.split(".")))


def _network_tensors(
    content: Mapping[str, Any], averages: bool, source: str
) -> dict[str, np.ndarray]:
    """Returns the network's tensors by torchvision's names, and those beside it."""
    networks = list(_networks(content, source))
    if not networks:
        tensors = dict(_all_tensors(content))
        for value in [] if tensors else content.values():
            check_read(value, source)
        return tensors
    averaged = [network for network in networks if network.is_average]
    last = [network for network in networks if not network.is_average]
    if averages and not averaged:
        raise ValueError(
            f"{source} has no averages of its weights, under a name such as model_ema. "
            f"It has: {list_names(network.place for network in networks)}. Load it "
            "without averages."
        )
    if last and averaged and not averages:
        logger.info("%s: averages=True or --averages loads its averages", source)
    chosen = averaged if averages else last or averaged
    if len(chosen) > 1:
        raise ValueError(
            f"{source} has several networks: "
            f"{list_names(network.place for network in chosen)}. Save one of them to a "
            "file of its own with torch.save."
        )
    (network,) = chosen
    others = tuple(
        other.prefix
        for other in networks
        if other.values is network.values
        and not network.prefix.startswith(other.prefix)
    )
    tensors, left_out = {}, []
    for name, value in network.values.items():
        check_read(value, source)
        if name.startswith(others) or name.endswith(".num_batches_tracked"):
            continue
        if _is_tensor(value) and value.ndim:
            tensors[name.removeprefix(network.prefix)] = _array(value)
        else:  # such as the number of averages
            left_out.append(name)
    log_left_out(source, left_out, "the state of training")
    return tensors


def _output_of(layer: str) -> str:
    """Returns the output that a classifier belongs to."""
    heads = (head for prefix, head in HEADS.items() if layer.startswith(prefix))
    return next(heads, MAIN)


def _networks(
    content: Mapping[str, Any], source: str, place: str = ""
) -> Iterator[_Network]:
    """Finds the networks in a dictionary and in those inside it."""
    values: dict[str, Any] = {}
    for name, value in content.items():
        parts = [part for part in str(name).split(".") if part not in WRAPPERS]
        values[".".join(parts) or str(name)] = value
    if len(values) < len(content):
        raise ValueError(
            f"{source} has tensors twice, with and without a wrapper such as 'module.'."
        )
    for prefix in scopes_in(values, LANDMARKS, "."):
        names = f"{place}.{prefix}".strip(".")
        yield _Network(names or "the tensors at the top", prefix, values)
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _networks(value, source, f"{place}.{name}".strip("."))


def _all_tensors(content: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _all_tensors(value)
        elif _is_tensor(value):
            yield str(name), _array(value)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "ndim") and hasattr(value, "shape")


def _array(tensor: Any) -> np.ndarray:
    """Returns an array; NumPy has no bfloat16, so torch's tensors become float32."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().float()
    return np.asarray(tensor)


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
