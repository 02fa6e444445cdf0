"""A network that starts from a trained one: `GoogLeNet(weights=...)`."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_inception.architecture import ARCHITECTURES, GOOGLENET
from keras_inception.files import write_whole
from keras_inception.network import CLASSIFIER, build_network
from keras_inception.outputs import MAIN, Output
from keras_inception.supervision import (
    AuxiliaryHead,
    DeeplySupervised,
    as_head,
    supervise,
)
from keras_inception.weights.torchvision import load_torchvision

# torchvision/models/googlenet.py; the name ends in the first digits of the SHA-256
IMAGENET_URL = "https://download.pytorch.org/models/googlenet-1378be20.pth"
IMAGENET_SHA256 = "1378be20"


def load_pretrained(
    weights: str | os.PathLike,
    input_shape: tuple[int, int, int],
    classes: int,
    auxiliary: Sequence[str | AuxiliaryHead],
    classifier_activation: str | None,
    name: str | None,
    **trunk,
) -> DeeplySupervised:
    """The trunk of a trained model under heads and a classifier for `classes`.

    Where the number of classes is the file's, the classifier and every head that the
    file has in the same shape are kept too. Prints what is kept and what is new.

    Args:
        weights: A `.keras` file of a GoogLeNet, or `"imagenet"`.
        input_shape, classes, auxiliary, classifier_activation, name: As `GoogLeNet`.
        **trunk: `architecture`, `width` and `batch_norm` of `GoogLeNet`; what differs
            from the defaults must be what the file has.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If `"imagenet"` is not at hand and can't be downloaded.
        ValueError: If the file holds no GoogLeNet, or another than `trunk` says.
    """
    imagenet = weights == "imagenet"
    path = imagenet_weights() if imagenet else Path(weights)
    source = _load(path)
    old_classes = source.get_layer(CLASSIFIER).units
    if trunk != {"architecture": GOOGLENET, "width": 1.0, "batch_norm": False}:
        _check_trunk(source, path, trunk)

    inputs = keras.Input(input_shape, name=source.input.name)
    old_trunk = keras.Model(source.input, source.get_layer(CLASSIFIER).input)
    new_trunk = keras.models.clone_model(old_trunk, input_tensors=inputs)
    new_trunk.set_weights(old_trunk.get_weights())
    for layer in new_trunk.layers:  # whatever was frozen when the file was written
        layer.trainable = True
    logits = keras.layers.Dense(classes, name=CLASSIFIER)(new_trunk.output)
    batch_norm = any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in new_trunk.layers
    )
    architecture = ARCHITECTURES.get(source.name)
    model = supervise(
        inputs,
        Output(classifier_activation, name=MAIN)(logits),
        _endpoints(new_trunk),
        [as_head(head, batch_norm=batch_norm) for head in auxiliary],
        adaptive_pool=architecture is not None and architecture.adaptive_head_pool,
        name=name or source.name,
    )
    kept = []
    if classes == old_classes:
        kept = [prefix for prefix in model.output if _copy(source, model, prefix)]
        model.class_names = source.class_names
    _tell(path, kept, [prefix for prefix in model.output if prefix not in kept])
    return model


def imagenet_weights() -> Path:
    """torchvision's published GoogLeNet as a `.keras` file in Keras's directory.

    Downloaded (50 MB) and converted once, into `~/.keras/models`, or `KERAS_HOME`'s.

    Raises:
        OSError: If the file is not there and can't be downloaded; says where to put it.
        ValueError: If the file is not the published one.
    """
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    downloaded = home / "models" / IMAGENET_URL.rpartition("/")[2]
    converted = downloaded.with_suffix(".keras")
    if converted.is_file():
        return converted
    if not downloaded.is_file():
        # Keras goes elsewhere without a word if the directory is not there
        downloaded.parent.mkdir(parents=True, exist_ok=True)
        try:
            keras.utils.get_file(
                downloaded.name, IMAGENET_URL, cache_subdir="models", cache_dir=home
            )
        # Keras raises plain Exception for whatever the network did
        except Exception as error:
            raise OSError(
                f"The ImageNet weights can't be downloaded ({error}). Where there is "
                f"a network, fetch {IMAGENET_URL} and put it at {downloaded}."
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
            f"There is no weights file {path}. `weights` is a .keras file, as "
            "keras-inception train and convert write, or 'imagenet'."
        )
    try:
        model = keras.saving.load_model(path, compile=False)
        model.get_layer(CLASSIFIER)
    except ValueError as error:
        raise ValueError(
            f"{path} is no GoogLeNet in a .keras file ({error}). Weights of "
            "torchvision, Caffe and TF-Slim are made one by keras-inception convert."
        ) from None
    return model


def _endpoints(trunk: keras.Model) -> dict[str, keras.KerasTensor]:
    """The stages' outputs by name; behind batch normalisation, the ReLU's."""
    layers = {layer.name: layer for layer in trunk.layers}
    stages = dict.fromkeys(
        stage for table in ARCHITECTURES.values() for stage in table.rows
    )
    return {
        stage: layers.get(f"{stage}_relu", layers[stage]).output
        for stage in stages
        if stage in layers
    }


def _check_trunk(source: keras.Model, path: Path, trunk: dict) -> None:
    """Refuses arguments that describe another trunk than the file has."""
    classes = source.get_layer(CLASSIFIER).units
    asked = build_network(input_shape=source.input.shape[1:], classes=classes, **trunk)
    has = {layer.name: _shapes(layer) for layer in source.layers}
    wrong = [
        layer.name for layer in asked.layers if has.get(layer.name) != _shapes(layer)
    ]
    if wrong:
        given = f"{trunk['architecture'].name}, width={trunk['width']}"
        raise ValueError(
            f"{path} holds another network than the arguments say ({given}, "
            f"batch_norm={trunk['batch_norm']}): they differ in {wrong[0]}"
            + (f" and {len(wrong) - 1} more layers" if len(wrong) > 1 else "")
            + ". With `weights` the trunk is the file's: leave architecture, width "
            "and batch_norm out."
        )


def _copy(source: keras.Model, model: keras.Model, prefix: str) -> bool:
    """Copies the layers of one output, if the file has all of them in these shapes."""
    theirs = {layer.name: layer for layer in source.layers}
    layers = [layer for layer in model.layers if layer.name.startswith(f"{prefix}_")]
    if any(
        layer.name not in theirs or _shapes(layer) != _shapes(theirs[layer.name])
        for layer in layers
    ):
        return False
    for layer in layers:
        layer.set_weights(theirs[layer.name].get_weights())
    return True


def _shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]


def _tell(path: Path, kept: list[str], new: list[str]) -> None:
    parts = [", ".join(["the trunk", *kept]), ", ".join(new)]
    print(
        f"weights of {path.name}: kept {parts[0]}"
        + (f"; new {parts[1]}" if new else ""),
        flush=True,
    )
