"""Loads TF-Slim's `inception_v1.ckpt` and what was trained from it."""

import os
from collections.abc import Container, Mapping, Sequence

import numpy as np

from keras_inception.architecture import GOOGLENET_SLIM
from keras_inception.network import build_network
from keras_inception.outputs import MAIN
from keras_inception.supervision import DeeplySupervised
from keras_inception.text import list_names
from keras_inception.weights.assign import Assignment, assign, convolution_names
from keras_inception.weights.imagenet import imagenet_class_names
from keras_inception.weights.selection import (
    is_average,
    log_left_out,
    logger,
    rename_classifiers,
    scopes_in,
    without,
)
from keras_inception.weights.slim_file import read_checkpoint

SCOPE = "InceptionV1"
# slim/nets/inception_v1.py: the stem, and the convolutions of an Inception
STEM = {
    "conv1_7x7_s2": "Conv2d_1a_7x7",
    "conv2_3x3_reduce": "Conv2d_2b_1x1",
    "conv2_3x3": "Conv2d_2c_3x3",
}
PARTS = (
    "Branch_0/Conv2d_0a_1x1",
    "Branch_1/Conv2d_0a_1x1",
    "Branch_1/Conv2d_0b_3x3",
    "Branch_2/Conv2d_0a_1x1",
    "Branch_2/Conv2d_0b_3x3",
    "Branch_3/Conv2d_0b_1x1",
)
# a misspelled name in slim, which every checkpoint has
RENAMED = {"Mixed_5b/Branch_2/Conv2d_0b_3x3": "Mixed_5b/Branch_2/Conv2d_0a_3x3"}
LOGITS = f"{SCOPE}/Logits/Conv2d_0c_1x1"
ENDINGS = ("/weights", "/biases")
LANDMARKS = ("Conv2d_1a_7x7/weights", "Mixed_5c/Branch_0/Conv2d_0a_1x1/weights")
BACKGROUND_CLASSES = 1001


def load_slim(
    path: str | os.PathLike,
    drop_background: bool = False,
    *,
    averages: bool = False,
    classifier: str | Mapping[str, str] | None = None,
    ignore: Sequence[str] = (),
) -> DeeplySupervised:
    """Builds a Keras model with the weights of a TF-Slim `inception_v1` checkpoint.

    Reading the checkpoint needs TensorFlow, on every backend of Keras. The published
    checkpoint has 1001 classes, "background" and ImageNet's, and no heads. The scope
    may be below others (`model/InceptionV1`). The state of training is left out:
    scalars such as `global_step`, and an optimizer's tensors, which are named after the
    variables.

    Args:
        path: The checkpoint: `inception_v1.ckpt`, the prefix of `.index` and
            `.data-...` files or one of these files, or the directory of a training, for
            its last checkpoint.
        drop_background: Whether to drop class 0, so that the classes, and the softmax
            over them, are ImageNet's 1000. Defaults to False.
        averages: Whether to load the exponential moving averages of the weights instead
            of the weights. Defaults to False.
        classifier: Scope of the classifier, if it is not slim's `Logits/Conv2d_0c_1x1`
            and can't be found by its shape.
        ignore: Names or scopes of tensors to leave out, or patterns. Defaults to none.

    Returns:
        A `DeeplySupervised` model for raw RGB pixels `(batch, 224, 224, 3)` in 0..255,
        not compiled; a single output `main`.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ImportError: If TensorFlow is not installed.
        ValueError: If the checkpoint can't be read, a tensor is missing, unexpected or
            of another shape, there is no background class to drop, or there are no
            averages.

    Source: tf-slim's nets/inception_v1.py and inception_utils.py.
    """
    tensors = network_tensors(read_checkpoint(path), averages, ignore, str(path))
    tensors = rename_classifiers(
        tensors, {MAIN: LOGITS}, ENDINGS, lambda name: MAIN, classifier, str(path)
    )
    kernel = tensors.get(f"{LOGITS}/weights")
    if kernel is None or kernel.ndim < 2:
        raise ValueError(
            f"{path} is not TF-Slim's inception_v1: it lacks {LOGITS}/weights. It has: "
            f"{list_names(tensors)}"
        )
    classes = kernel.shape[-1]
    if drop_background and classes != BACKGROUND_CLASSES:
        raise ValueError(
            f"{path} has {classes} classes and no background class to drop. Only "
            f"checkpoints with {BACKGROUND_CLASSES} classes have one."
        )
    skip = int(drop_background)
    model = build_network(GOOGLENET_SLIM, classes=classes - skip, batch_norm=True)
    plan = _plan(model, skip)
    # By default slim's batch normalization has no gamma.
    if not any(name.endswith("/gamma") for name in tensors):
        gammas = [one for one in plan if one.key.endswith("/gamma")]
        tensors |= {one.key: np.ones(one.variable.shape) for one in gammas}
    assign(model, plan, tensors, str(path))
    model.class_names = imagenet_class_names(classes - skip)
    return model


def network_tensors(
    tensors: Mapping[str, np.ndarray],
    averages: bool,
    ignore: Sequence[str],
    source: str,
) -> dict[str, np.ndarray]:
    """Returns the network's tensors by slim's names, and those of unknown use.

    Variables are leaves of the tree of scopes. What is named after one, as
    `OptimizeLoss/VARIABLE/Momentum`, belongs to an optimizer or is its average.
    """
    left = without(tensors, ignore, source)
    averages_of: dict[str, str] = {}
    state = [name for name, tensor in left.items() if tensor.ndim == 0]
    for name in left:
        parts = name.split("/")
        plain = "/".join(part for part in parts if not is_average(part))
        if plain != name and left[name].ndim:
            # the longest end of the name that is a variable
            ends = [plain.split("/", n)[-1] for n in range(plain.count("/") + 1)]
            plain = next((end for end in ends if end in left), plain)
            if _named_after(plain.split("/"), left):
                state.append(name)
            else:
                averages_of[plain] = name
        elif _named_after(parts, left):
            state.append(name)
    log_left_out(source, state, "the state of training")
    others = {*state, *averages_of.values()}
    variables = {name: x for name, x in left.items() if name not in others}
    averaged = {variable: left[name] for variable, name in averages_of.items()}
    if averages:
        variables = _averages(variables, averaged, source)
    elif averaged:
        logger.info("%s: averages=True or --averages loads its averages", source)
    scopes = scopes_in(variables, LANDMARKS, "/")
    if averaged and not scopes and not averages:
        raise ValueError(
            f"{source} has only averages of its weights. Load them: averages=True, or "
            "convert --averages."
        )
    if len(scopes) > 1:
        raise ValueError(
            f"{source} has several networks: {list_names(scopes)}. Leave out all but "
            "one: ignore=[SCOPE], or convert --ignore SCOPE."
        )
    (scope,) = scopes or [f"{SCOPE}/"]
    return {
        f"{SCOPE}/{name.removeprefix(scope)}" if name.startswith(scope) else name: x
        for name, x in variables.items()
    }


def _named_after(parts: list[str], names: Container[str]) -> bool:
    """Whether a name has a variable's whole name inside, with something after it."""
    ends = range(1, len(parts))
    return any("/".join(parts[i:j]) in names for j in ends for i in range(j))


def _averages(
    variables: dict[str, np.ndarray], averaged: dict[str, np.ndarray], source: str
) -> dict[str, np.ndarray]:
    """Replaces the variables by their averages; statistics need not have any."""
    if not averaged:
        raise ValueError(
            f"{source} has no averages of its weights, such as "
            f"{LOGITS}/weights/ExponentialMovingAverage. Load it without averages."
        )
    lacking = [
        name
        for name in variables
        if name not in averaged
        and not name.endswith(("moving_mean", "moving_variance"))
    ]
    if lacking:
        raise ValueError(f"{source} has no averages of {list_names(lacking, 6)}.")
    return variables | averaged


def _plan(model: DeeplySupervised, skip: int) -> list[Assignment]:
    plan = []
    for stage, names in convolution_names(GOOGLENET_SLIM).items():
        keys = [STEM.get(stage, "")]
        if stage not in STEM:
            # Slim counts from b: its Mixed_3b is inception_3a.
            mixed = f"Mixed_{stage[-2]}{chr(ord(stage[-1]) + 1)}"
            keys = [f"{mixed}/{part}" for part in PARTS]
        for name, key in zip(names, keys, strict=True):
            key = f"{SCOPE}/{RENAMED.get(key, key)}"
            plan.append(Assignment(model.get_layer(name).kernel, f"{key}/weights"))
            norm = model.get_layer(f"{name}_bn")
            for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                plan.append(Assignment(getattr(norm, part), f"{key}/BatchNorm/{part}"))
    classifier = model.get_layer("main_classifier")
    return [
        *plan,
        Assignment(
            classifier.kernel,
            f"{LOGITS}/weights",
            lambda x: x.reshape(-1, x.shape[-1])[:, skip:],
        ),
        Assignment(classifier.bias, f"{LOGITS}/biases", lambda x: x[skip:]),
    ]
