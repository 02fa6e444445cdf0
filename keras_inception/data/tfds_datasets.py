"""Datasets of TensorFlow Datasets: those at hand are read without any network."""

import os
import socket
from pathlib import Path

from keras_inception.data import records
from keras_inception.data.splits import Source

_HELD_OUT = ("validation", "val", "test")
_DIGITS_AND_LETTERS = ("mnist", "svhn", "binary_alpha_digits", "quickdraw", "omniglot")


def find_dataset(
    spec: str, data_dir: str | Path | None, *, validation_share: float
) -> Source:
    """Finds a dataset in `data_dir`, where TFDS puts it first if it is not there.

    Args:
        spec: `NAME`, `NAME:VERSION`, `NAME/CONFIG` or `NAME/CONFIG:VERSION`.
        data_dir: Where TFDS keeps its records; `None` for its default.
        validation_share: How much of `train` is held out if the dataset has no split
            for it: the end, which is a random part, as TFDS shuffles what it writes.

    Raises:
        FileNotFoundError: If the dataset is not there and there is no network.
        ValueError: If it has no pictures with one label each, or the name leaves a
            choice.
    """
    tfds = records.import_tfds()
    root = records.records_directory(data_dir)
    directory = _prepared(root, spec) or _fetched(tfds, spec, root)
    info = tfds.builder_from_directory(directory).info
    if info.file_format != tfds.core.FileFormat.TFRECORD:
        raise ValueError(
            f"{directory} keeps {info.file_format.value} files; only tfrecord files "
            "are read. Prepare it again with tfds build --file_format=tfrecord."
        )
    image, label = _keys(tfds, info, spec)
    train, validation = _split_names(info, spec, validation_share)
    decoders = {image: tfds.decode.SkipDecoding()}

    def parse(record):
        example = info.features.deserialize_example(record, decoders=decoders)
        return None, example[image], example[label]

    def split(name):
        return records.RecordSplit(
            records.record_files(info.splits[name]),
            parse,
            info.splits[name].num_examples,
            records.block_size(info.splits[name]),
        )

    splits = split(train), split(validation)
    return Source(
        info.name,
        list(info.features[label].names),
        *splits,
        records.read,
        records.read_window,
        sizes=records.measure(splits[0]),
        mirror=not any(part in info.name for part in _DIGITS_AND_LETTERS),
    )


def _prepared(root: Path, spec: str) -> Path | None:
    """The directory of a prepared dataset: `NAME/VERSION` or `NAME/CONFIG/VERSION`."""
    name, _, version = spec.partition(":")
    name, _, config = name.partition("/")
    found = {}
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
            f"{root / name} holds several configurations; name one of them: "
            + ", ".join(f"tfds:{name}/{config}" for config in sorted(found))
        )
    return max(*found.values(), key=_version_number) if found else None


def _version_number(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.name.split(".") if part.isdecimal())


def _fetched(tfds, spec: str, root: Path) -> Path:
    if not _network():
        name = spec.partition(":")[0]
        raise FileNotFoundError(
            f"There is no dataset {spec!r} in {root}, and no network to fetch it from. "
            f"Where there is one, run: tfds build {name} --data_dir=DIR, and bring DIR "
            "here as --data-dir."
        )
    try:
        builder = tfds.builder(spec, data_dir=root)
    except tfds.core.DatasetNotFoundError:
        raise ValueError(f"TensorFlow Datasets knows no dataset {spec!r}.") from None
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _network() -> bool:
    """Whether anything answers; TFDS itself would try for minutes."""
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY")):
        return True
    try:
        with socket.create_connection(("www.tensorflow.org", 443), timeout=3):
            return True
    except OSError:
        return False


def _keys(tfds, info, spec: str) -> tuple[str, str]:
    """The names of the picture and of its label among the dataset's features."""
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
        f"tfds:{spec} is no dataset of pictures with one label each. Its features: "
        f"{', '.join(features)}"
    )


def _split_names(info, spec: str, share: float) -> tuple[str, str]:
    if "train" not in info.splits:
        raise ValueError(
            f"tfds:{spec} has no split 'train', only {', '.join(info.splits)}."
        )
    held_out = [name for name in _HELD_OUT if name in info.splits]
    if held_out:
        return "train", held_out[0]
    percent = 100 - round(100 * share)
    return f"train[:{percent}%]", f"train[{percent}%:]"
