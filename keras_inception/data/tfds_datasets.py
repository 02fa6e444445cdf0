"""Datasets of TensorFlow Datasets (TFDS); prepared ones are read without a network."""

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_inception.data.decoding import decode, decode_window
from keras_inception.data.layouts import split_of
from keras_inception.data.listing import SPLITS
from keras_inception.data.sources import Source
from keras_inception.data.splits import RecordSplit

_DIGITS_AND_LETTERS = ("mnist", "svhn", "binary_alpha_digits", "quickdraw", "omniglot")
# Records are shuffled in blocks of about this many bytes, which are held in memory.
_BLOCK_BYTES = 256 * 2**20


def find_dataset(
    spec: str,
    data_dir: str | Path | None,
    *,
    validation_share: float,
    whole: bool = False,
) -> Source:
    """Finds `NAME[/CONFIG][:VERSION]`; TFDS downloads and prepares it if it is missing.

    A dataset without a split for validation is validated on the end of `train`, which
    is a random part, since TFDS shuffles the records that it writes. `whole` makes all
    of its splits the training split.
    """
    root = records_directory(data_dir)
    directory = _prepared_directory(root, spec) or _download(spec, root)
    info = tfds.builder_from_directory(directory).info
    if info.file_format != tfds.core.FileFormat.TFRECORD:
        raise ValueError(
            f"{directory} contains {info.file_format.value} files; only tfrecord files "
            "are supported. Prepare it again with tfds build --file_format=tfrecord."
        )
    image, label = _image_and_label(info, spec)
    name_by_split = _split_names(info, spec, validation_share)
    if whole:
        name_by_split = {"train": "+".join(name_by_split.values())}
    splits = {
        split: record_split(info, name, image, label)
        for split, name in name_by_split.items()
    }
    train = splits["train"]
    return Source(
        info.name,
        list(info.features[label].names),
        train,
        splits.get("validation") or train.take(np.arange(0)),
        read=decode,
        read_window=decode_window,
        sizes=train.measure(),
        test=splits.get("test"),
        mirror=info.name == "fashion_mnist"
        or not any(part in info.name for part in _DIGITS_AND_LETTERS),
        dataset="tfds:{}:{}".format(*info.full_name.rsplit("/", 1)),
    )


def records_directory(data_dir: str | Path | None) -> Path:
    """The folder of the records: `data_dir`, by default where TFDS keeps its own."""
    return Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()


def record_split(
    info: tfds.core.DatasetInfo,
    name: str,
    image: str,
    label: str,
    position: str | None = None,
    **arguments: Any,
) -> RecordSplit:
    """Makes a `RecordSplit` of the split `name`, which may be a slice (`train[:80%]`).

    `image`, `label` and `position` are names of features; without the last an example's
    position is its record's number. By default the split has all examples.
    """
    split = info.splits[name]
    decoders = {image: tfds.decode.SkipDecoding()}

    def parse(number: tf.Tensor, record: tf.Tensor) -> tuple:
        example = info.features.deserialize_example(record, decoders=decoders)
        place = number if position is None else tf.cast(example[position], tf.int64)
        return place, example[image], tf.cast(example[label], tf.int32)

    files = []
    for part in split.file_instructions:
        rest = part.examples_in_shard - part.skip
        taken = rest if part.take < 0 else part.take
        files.append((str(part.filename), part.skip, taken))
    count = split.num_examples
    mean_bytes = max(1, split.num_bytes) / max(1, count)
    block = int(np.clip(_BLOCK_BYTES / mean_bytes, 1, max(1, count)))
    return RecordSplit(files, parse, **{"count": count, "block": block} | arguments)


def _prepared_directory(root: Path, spec: str) -> Path | None:
    """The newest prepared `NAME/VERSION` or `NAME/CONFIG/VERSION` that fits `spec`."""
    name, _, version = spec.partition(":")
    name, _, config = name.partition("/")
    found: dict[str, list[Path]] = {}
    for pattern in ("*/dataset_info.json", "*/*/dataset_info.json"):
        for file in (root / name).glob(pattern):
            *configs, its_version = file.parent.relative_to(root / name).parts
            its_config = "".join(configs)
            if config in ("", its_config) and version in ("", its_version):
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
    except (tfds.core.DatasetNotFoundError, AssertionError) as error:
        # TFDS asserts that it has the version, and names those that it has.
        known = f" {error}" if isinstance(error, AssertionError) else ""
        raise ValueError(
            f"There is no dataset {spec!r} in {root}, and TensorFlow Datasets can't "
            f"prepare it.{known}"
        ) from None
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


def _image_and_label(info: tfds.core.DatasetInfo, spec: str) -> tuple[str, str]:
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


def _split_names(
    info: tfds.core.DatasetInfo, spec: str, validation_share: float
) -> dict[str, str]:
    """The name or slice of each split in TFDS, by our name for it."""
    found: dict[str, str] = {}
    for name in info.splits:
        if split := split_of(name):
            found.setdefault(split, name)
    if "train" not in found:
        existing = ", ".join(info.splits)
        raise ValueError(f"tfds:{spec} has no split 'train', only {existing}.")
    if "validation" not in found and validation_share:
        percent = 100 - round(100 * validation_share)
        train = found["train"]
        found |= {
            "train": f"{train}[:{percent}%]",
            "validation": f"{train}[{percent}%:]",
        }
    return {split: found[split] for split in SPLITS if split in found}
