"""A folder's pictures, written once as records of TensorFlow Datasets (TFDS).

Many small files are slow to open, especially over a network; records are read from
beginning to end. Every picture is decoded once before the records are written, so that
they contain no bad one.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.decoding import decode, decode_window
from keras_inception.data.folders import LabeledPaths, Listing, find_folder
from keras_inception.data.pictures import as_decodable_bytes
from keras_inception.data.pipelines import whole_pictures
from keras_inception.data.sources import Source
from keras_inception.data.splits import RecordSplit, validation_mask
from keras_inception.data.tfds_datasets import record_split, records_directory

_VERSION = "1.0.0"
_SIZES_KEPT = 1000


def find_cached(
    listing: Listing,
    bad: BadPictures,
    data_dir: str | Path | None,
    log: Callable[[str], object],
    *,
    seed: int,
    validation_share: float,
) -> Source:
    """Does what `find_folder` does, but the source reads records from `data_dir`.

    They are written if there are none, or if a file of the folder is new, deleted or
    changed. The validation split is the same as without records.
    """
    slug = re.sub(r"\W+", "_", listing.name.lower()).strip("_")
    config = f"{slug or 'pictures'}-{_fingerprint(listing)[:12]}"
    root = records_directory(data_dir)
    directory = root / KerasInceptionFolder.name / config / _VERSION
    if not (directory / "dataset_info.json").is_file():
        _write(root, config, listing, bad, log)
    info = tfds.builder_from_directory(directory).info
    bad.total = len(listing.files)
    for path, fault in info.metadata["bad"].items():
        bad.add(path, fault)
    bad.check()

    def split_of(name: str, files: LabeledPaths, chosen: np.ndarray) -> RecordSplit:
        return record_split(
            info,
            name,
            "image",
            "label",
            "position",
            count=int(chosen.sum()),
            chosen=chosen,
            names=[str(path) for path, _ in files],
            known_labels=np.array([label for _, label in files], "int32")[chosen],
        )

    good = _good(listing.train, bad)
    if listing.validation is None:
        labels = np.array([label for _, label in listing.train])[good]
        chosen = np.zeros_like(good)
        names = listing.class_names
        chosen[good] = validation_mask(labels, names, seed, validation_share)
        validation = split_of("train", listing.train, chosen)
        good &= ~chosen
    else:
        files = listing.validation
        validation = split_of("validation", files, _good(files, bad))
    return Source(
        listing.name,
        listing.class_names,
        split_of("train", listing.train, good),
        validation,
        read=decode,
        read_window=decode_window,
        sizes=np.array(info.metadata["sizes"]),
        bad=bad,
    )


def _good(files: LabeledPaths, bad: BadPictures) -> np.ndarray:
    return np.array([str(path) not in bad.faults for path, _ in files])


def _fingerprint(listing: Listing) -> str:
    """Digests every file's path, label, size and time of modification."""
    digest = hashlib.sha256()
    for path, label in listing.files:
        try:
            status = path.stat()
            state = status.st_size, status.st_mtime_ns
        except OSError:
            state = None
        digest.update(repr((str(path.resolve()), label, state)).encode())
    return digest.hexdigest()


def _write(root: Path, config: str, listing: Listing, bad: BadPictures, log) -> None:
    source = find_folder(listing, bad, seed=0, validation_share=0.5)
    directory = root / KerasInceptionFolder.name / config
    log(f"writing {bad.total} pictures as records into {directory}")
    for split in (source.train, source.validation):
        for _ in whole_pictures(source, split):  # adds undecodable pictures to `bad`
            pass
    bad.check()
    step = max(1, len(source.sizes) // _SIZES_KEPT)
    metadata = {"bad": dict(bad.faults), "sizes": source.sizes[::step].tolist()}
    builder = KerasInceptionFolder(
        listing, metadata, data_dir=root, config=tfds.core.BuilderConfig(name=config)
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it claims to be downloading
        builder.download_and_prepare()


class KerasInceptionFolder(tfds.core.GeneratorBasedBuilder):
    """Writes the files of a `Listing` as records; `metadata` names the bad ones."""

    name = "keras_inception_folder"  # of the directory, too
    VERSION = tfds.core.Version(_VERSION)

    def __init__(self, listing: Listing, metadata: dict[str, Any], **arguments: Any):
        self._listing, self._metadata = listing, metadata
        super().__init__(**arguments)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=self._listing.class_names),
            "position": tf.int64,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            metadata=tfds.core.MetadataDict(self._metadata),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        splits = {"train": self._listing.train}
        if self._listing.validation is not None:
            splits["validation"] = self._listing.validation
        return {name: self._generate_examples(files) for name, files in splits.items()}

    def _generate_examples(self, files: LabeledPaths) -> Iterator:
        for position, (path, label) in enumerate(files):
            if str(path) not in self._metadata["bad"]:
                encoded = io.BytesIO(as_decodable_bytes(path.read_bytes()))
                example = {"image": encoded, "label": label}
                yield position, example | {"position": position}
