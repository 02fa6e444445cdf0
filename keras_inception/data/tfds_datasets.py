"""Datasets of TensorFlow Datasets (TFDS); prepared ones are read without a network."""

import os
import socket
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_inception.data import records
from keras_inception.data.pictures import decode, decode_window
from keras_inception.data.sources import Source

_VALIDATION_SPLITS = ("validation", "val", "test")
_DIGITS_AND_LETTERS = ("mnist", "svhn", "binary_alpha_digits", "quickdraw", "omniglot")


def find_dataset(
    spec: str, data_dir: str | Path | None, *, validation_share: float
) -> Source:
    """Finds a dataset in `data_dir`; TFDS downloads and prepares it if it is missing.

    Args:
        spec: `NAME`, `NAME:VERSION`, `NAME/CONFIG` or `NAME/CONFIG:VERSION`.
        data_dir: The folder of the records; `None` for the default of TFDS.
        validation_share: Fraction of `train` used for validation if the dataset has no
            split for it. It is the end of `train`, which is a random part, since TFDS
            shuffles the records that it writes.

    Raises:
        FileNotFoundError: If the dataset is missing and there is no network.
        ValueError: If its pictures do not have one label each, or the name is
            ambiguous.
    """
    root = records.records_directory(data_dir)
    directory = _prepared_directory(root, spec) or _download(spec, root)
    info = tfds.builder_from_directory(directory).info
    if info.file_format != tfds.core.FileFormat.TFRECORD:
        raise ValueError(
            f"{directory} contains {info.file_format.value} files; only tfrecord files "
            "are supported. Prepare it again with tfds build --file_format=tfrecord."
        )
    image, label = _image_and_label(info, spec)
    decoders = {image: tfds.decode.SkipDecoding()}

    def parse(record: tf.Tensor) -> tuple:
        example = info.features.deserialize_example(record, decoders=decoders)
        return None, example[image], example[label]

    train, validation = (
        records.record_split(info.splits[name], parse)
        for name in _split_names(info, spec, validation_share)
    )
    return Source(
        info.name,
        list(info.features[label].names),
        train,
        validation,
        read=decode,
        read_window=decode_window,
        sizes=train.measure(),
        mirror=not any(part in info.name for part in _DIGITS_AND_LETTERS),
    )


def _prepared_directory(root: Path, spec: str) -> Path | None:
    """The newest prepared `NAME/VERSION` or `NAME/CONFIG/VERSION` that fits `spec`."""
    name, _, version = spec.partition(":")
    name, _, config = name.partition("/")
    found: dict[str, list[Path]] = {}
    for file in [
        *(root / name).glob("*/dataset_info.json"),
        *(root / name).glob("*/*/dataset_info.json"),
    ]:
        parts = file.parent.relative_to(root / name).parts
        its_config = parts[0] if len(parts) == 2 else ""
        if config in ("", its_config) and version in ("", parts[-1]):
            found.setdefault(its_config, []).append(file.parent)
    if len(found) > 1:
        raise ValueError(
            f"{root / name} contains several configurations; name one of them: "
            + ", ".join(f"tfds:{name}/{config}" for config in sorted(found))
        )
    return max(*found.values(), key=_version_number) if found else None


def _version_number(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.name.split(".") if part.isdecimal())


def _download(spec: str, root: Path) -> Path:
    if not _has_network():
        name = spec.partition(":")[0]
        raise FileNotFoundError(
            f"There is no dataset {spec!r} in {root}, and no network to download it. "
            f"On a machine with a network, run: tfds build {name} --data_dir=DIR; then "
            "copy DIR here and pass it as --data-dir."
        )
    try:
        builder = tfds.builder(spec, data_dir=root)
    except tfds.core.DatasetNotFoundError:
        raise ValueError(f"TensorFlow Datasets has no dataset {spec!r}.") from None
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _has_network() -> bool:
    """Whether a server answers in 3 seconds; TFDS itself would retry for minutes."""
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY")):
        return True
    try:
        with socket.create_connection(("www.tensorflow.org", 443), timeout=3):
            return True
    except OSError:
        return False


def _image_and_label(info: Any, spec: str) -> tuple[str, str]:
    """The names of the features that contain the picture and its label."""
    features = dict(info.features.items())
    images = [k for k, v in features.items() if isinstance(v, tfds.features.Image)]
    labels = [k for k, v in features.items() if isinstance(v, tfds.features.ClassLabel)]
    if info.supervised_keys and len(info.supervised_keys) == 2:
        image, label = info.supervised_keys
        if image in images and label in labels:
            return image, label
    if len(images) == 1 and len(labels) == 1:
        return images[0], labels[0]
    raise ValueError(
        f"tfds:{spec} is not a dataset of pictures with one label each. Its features: "
        f"{', '.join(features)}"
    )


def _split_names(info: Any, spec: str, validation_share: float) -> tuple[str, str]:
    if "train" not in info.splits:
        raise ValueError(
            f"tfds:{spec} has no split 'train', only {', '.join(info.splits)}."
        )
    for name in _VALIDATION_SPLITS:
        if name in info.splits:
            return "train", name
    percent = 100 - round(100 * validation_share)
    return f"train[:{percent}%]", f"train[{percent}%:]"
