"""Loads TF-Slim's `inception_v1.ckpt`."""

import os
from pathlib import Path

import numpy as np

from keras_inception.architecture import GOOGLENET_SLIM
from keras_inception.network import build_network
from keras_inception.supervision import DeeplySupervised
from keras_inception.weights.assign import Assignment, assign, convolution_names
from keras_inception.weights.imagenet import imagenet_class_names

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
BACKGROUND_CLASSES = 1001
# suffixes of the variables that training adds to a checkpoint
OPTIMIZER = ("/Momentum", "/RMSProp", "/RMSProp_1", "/Adam", "/Adam_1")


def load_slim(
    path: str | os.PathLike, drop_background: bool = False
) -> DeeplySupervised:
    """Builds a Keras model with the weights of a TF-Slim `inception_v1` checkpoint.

    Reading the checkpoint needs TensorFlow, on every backend of Keras. The published
    checkpoint has 1001 classes, "background" and ImageNet's, and no heads.

    Args:
        path: The checkpoint: `inception_v1.ckpt`, or the prefix of `.index` and
            `.data-...` files.
        drop_background: Whether to drop class 0, so that the classes, and the softmax
            over them, are ImageNet's 1000. Defaults to False.

    Returns:
        A `DeeplySupervised` model for raw RGB pixels `(batch, 224, 224, 3)` in 0..255,
        not compiled; a single output `main`.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ImportError: If TensorFlow is not installed.
        ValueError: If the checkpoint can't be read, a tensor is missing, unexpected or
            of another shape, or there is no background class to drop.

    Source: tf-slim's nets/inception_v1.py and inception_utils.py.
    """
    tensors = read_checkpoint(path)
    kernel = tensors.get(f"{LOGITS}/weights")
    if kernel is None or kernel.ndim != 4:
        raise ValueError(
            f"{path} is not TF-Slim's inception_v1: it lacks {LOGITS}/weights."
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
    for one in plan:
        if one.key.endswith("/gamma"):
            tensors.setdefault(one.key, np.ones(one.variable.shape, "float32"))
    assign(model, plan, tensors, str(path))
    model.class_names = imagenet_class_names(classes - skip)
    return model


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the network's tensors in a TensorFlow checkpoint by name."""
    path = Path(path)
    if not path.is_file() and not path.with_name(f"{path.name}.index").is_file():
        raise FileNotFoundError(
            f"The checkpoint {path} does not exist (nor does {path}.index). Pass the "
            ".ckpt file or the prefix of the .index and .data files."
        )
    try:
        import tensorflow as tf
    except ImportError:
        raise ImportError(
            "Reading a TF-Slim checkpoint needs TensorFlow, which is not installed. "
            "Run: pip install tensorflow"
        ) from None
    try:
        reader = tf.train.load_checkpoint(str(path))
        names = [
            name
            for name in reader.get_variable_to_shape_map()
            if name.startswith(f"{SCOPE}/") and not name.endswith(OPTIMIZER)
        ]
        return {name: reader.get_tensor(name) for name in names}
    # The types that TensorFlow's reader raises are not documented.
    except Exception as error:
        raise ValueError(
            f"{path} can't be read as a TensorFlow checkpoint: it is truncated or "
            f"another kind of file ({type(error).__name__})."
        ) from None


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
        Assignment(classifier.kernel, f"{LOGITS}/weights", lambda x: x[0, 0, :, skip:]),
        Assignment(classifier.bias, f"{LOGITS}/biases", lambda x: x[skip:]),
    ]
