"""Builds a network that starts from a trained one: `GoogLeNet(weights=...)`."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_inception.architecture import (
    ARCHITECTURES,
    GOOGLENET,
    Architecture,
    stage_of,
    stages_in,
)
from keras_inception.files import write_whole
from keras_inception.graph import has_batch_norm
from keras_inception.keras_behavior import impatient_downloads
from keras_inception.network import CLASSIFIER, build_network
from keras_inception.outputs import MAIN, Output, may_have_classes
from keras_inception.supervision import (
    AuxiliaryHead,
    DeeplySupervised,
    as_heads,
    supervise,
)
from keras_inception.text import list_names
from keras_inception.weights.torchvision import load_torchvision

# torchvision/models/googlenet.py; the name ends with the first digits of the SHA-256.
IMAGENET_URL = "https://download.pytorch.org/models/googlenet-1378be20.pth"
IMAGENET_SHA256 = "1378be20"

logger = logging.getLogger("keras_inception")


def load_pretrained(
    weights: str | os.PathLike,
    architecture: Architecture = GOOGLENET,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    auxiliary: Sequence[str | AuxiliaryHead] = (),
    width: float = 1.0,
    batch_norm: bool = False,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    class_names: Sequence[str] | None = None,
) -> DeeplySupervised:
    """Builds a network on the trunk of a trained one, for any number of classes.

    Arguments and errors are those of `GoogLeNet`; `architecture`, `width` and
    `batch_norm` are either the defaults or those of the file.
    """
    path = imagenet_weights() if weights == "imagenet" else Path(weights)
    source = _load(path)
    old_classes = source.get_layer(CLASSIFIER).units
    if (architecture, width, batch_norm) != (GOOGLENET, 1.0, False):
        _check_trunk(source, path, architecture, width=width, batch_norm=batch_norm)

    inputs = keras.Input(input_shape, name=source.input.name)
    old_trunk = keras.Model(source.input, source.get_layer(CLASSIFIER).input)
    new_trunk = keras.models.clone_model(old_trunk, input_tensors=inputs)
    new_trunk.set_weights(old_trunk.get_weights())
    for layer in new_trunk.layers:  # some may have been frozen in the file
        layer.trainable = True
    logits = keras.layers.Dense(classes, name=CLASSIFIER)(new_trunk.output)
    layers = {layer.name: layer for layer in new_trunk.layers}
    batch_norm = has_batch_norm(new_trunk)
    table = ARCHITECTURES.get(source.name)
    model = supervise(
        inputs,
        Output(classifier_activation, name=MAIN)(logits),
        {stage: layers[layer].output for stage, layer in stages_in(layers).items()},
        as_heads("auxiliary", auxiliary, batch_norm=batch_norm),
        adaptive_pool=table is not None and table.adaptive_head_pool,
        name=name or source.name,
    )
    kept = []
    if classes == old_classes and may_have_classes(source, class_names):
        kept = [output for output in model.output if copy_output(source, model, output)]
        model.class_names = source.class_names
    all_kept = ", ".join(["the trunk", *kept])
    new = ", ".join(output for output in model.output if output not in kept)
    ending = f"; new {new}" if new else ""
    logger.info("weights of %s: kept %s%s", path.name, all_kept, ending)
    return model


def imagenet_weights() -> Path:
    """Returns the path of torchvision's published GoogLeNet as a `.keras` file.

    The first call downloads it (50 MB) and converts it, into `models` of `KERAS_HOME`,
    or of `~/.keras`.
    """
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    downloaded = home / "models" / IMAGENET_URL.rpartition("/")[2]
    converted = downloaded.with_suffix(".keras")
    if converted.is_file():
        return converted
    if not downloaded.is_file():
        # Keras silently uses another directory if this one does not exist.
        downloaded.parent.mkdir(parents=True, exist_ok=True)
        try:
            with impatient_downloads():
                keras.utils.get_file(
                    downloaded.name, IMAGENET_URL, cache_subdir="models", cache_dir=home
                )
        except Exception as error:  # Keras raises this type if a download fails
            raise OSError(
                f"The ImageNet weights can't be downloaded ({error}). On a machine "
                f"with a network, fetch {IMAGENET_URL} and put it at {downloaded}."
            ) from None
    checksum = hashlib.sha256(downloaded.read_bytes()).hexdigest()
    if not checksum.startswith(IMAGENET_SHA256):
        raise ValueError(
            f"{downloaded} is not the published file: its SHA-256 starts with "
            f"{checksum[:8]}, not {IMAGENET_SHA256}. Delete it and try again."
        )
    model = load_torchvision(downloaded)
    write_whole(converted, model.save)
    return converted


def _load(path: Path) -> keras.Model:
    if not path.is_file():
        raise FileNotFoundError(
            f"The weights file {path} does not exist. `weights` is a .keras file, as "
            "keras-inception train and convert write, or 'imagenet'."
        )
    try:
        model = keras.saving.load_model(path, compile=False)
        model.get_layer(CLASSIFIER)
    except ValueError as error:
        raise ValueError(
            f"{path} is not a GoogLeNet in a .keras file ({error}). For weights of "
            "torchvision, Caffe or TF-Slim run keras-inception convert first."
        ) from None
    return model


def _check_trunk(
    source: keras.Model, path: Path, architecture: Architecture, **options: Any
) -> None:
    """Raises an error if the arguments describe another trunk than the file has."""
    shape, classes = source.input.shape[1:], source.get_layer(CLASSIFIER).units
    described = build_network(
        architecture, input_shape=shape, classes=classes, **options
    )
    theirs = {layer.name: _shapes(layer) for layer in source.layers}
    ours = {layer.name: _shapes(layer) for layer in described.layers}
    wrong = [name for name, shapes in ours.items() if theirs.get(name) != shapes]
    if wrong:
        sizes = ", ".join(f"{option}={value}" for option, value in options.items())
        raise ValueError(
            f"{path} holds another network than the arguments describe "
            f"({architecture.name}, {sizes}). Layers that differ: "
            f"{list_names(wrong, 3)}. With `weights` the trunk is the file's: leave "
            "architecture, width and batch_norm out."
        )


def copy_output(source: keras.Model, model: DeeplySupervised, output: str) -> bool:
    """Copies the layers of one output, if the file has all of them in these shapes."""
    theirs = {layer.name: layer for layer in source.layers}
    ours = [x for x in model.layers if stage_of(x.name, model.output) == output]
    if any(x.name not in theirs or _shapes(theirs[x.name]) != _shapes(x) for x in ours):
        return False
    for layer in ours:
        layer.set_weights(theirs[layer.name].get_weights())
    return True


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]
