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
from keras_inception.data.duplicates import find_duplicates, group_copies
from keras_inception.data.folders import divide, find_folder, without_copies
from keras_inception.data.listing import LabeledPaths, Listing
from keras_inception.data.passed_over import NO_PICTURE, PassedOver
from keras_inception.data.pictures import as_decodable_bytes
from keras_inception.data.pipelines import whole_pictures
from keras_inception.data.sources import Source
from keras_inception.data.splits import RecordSplit
from keras_inception.data.tfds_datasets import record_split, records_directory

_VERSION = "2.0.0"
_SIZES_KEPT = 1000


def find_cached(
    listing: Listing,
    bad: BadPictures,
    data_dir: str | Path | None,
    log: Callable[[str], object],
    *,
    seed: int,
    validation_share: float,
    drop_duplicates: bool = False,
) -> Source:
    """Does what `find_folder` does, but the source reads records from `data_dir`.

    They are written if there are none, or if a file of the folder is new, deleted or
    changed. The splits are the same as without records.
    """
    slug = re.sub(r"\W+", "_", listing.name.lower()).strip("_")
    config = f"{slug or 'pictures'}-{_fingerprint(listing)[:12]}"
    root = records_directory(data_dir)
    directory = root / KerasInceptionFolder.name / config / _VERSION
    if not (directory / "dataset_info.json").is_file():
        _write(root, config, listing, bad, log)
    info = tfds.builder_from_directory(directory).info
    no_pictures = info.metadata["no_pictures"]
    bad.total = len(listing.files) - len(no_pictures)
    for path, fault in info.metadata["bad"].items():
        bad.add(path, fault)
    bad.check()
    left_out = {*bad.faults, *no_pictures}
    good = {path for path, _ in listing.files if str(path) not in left_out}
    by_split = divide(listing, good, seed, validation_share)
    duplicates = find_duplicates(by_split, info.metadata["copies"])
    if drop_duplicates:
        by_split = without_copies(by_split, duplicates)

    def records(name: str) -> RecordSplit:
        written = name if name in listing.by_split else "train"
        listed, chosen = listing.by_split[written], {path for path, _ in by_split[name]}
        return record_split(
            info,
            written,
            "image",
            "label",
            "position",
            count=len(chosen),
            chosen=np.array([path in chosen for path, _ in listed], bool),
            names=[str(path) for path, _ in listed],
            known_labels=np.array([label for _, label in by_split[name]], "int32"),
        )

    return Source(
        listing.name,
        listing.class_names,
        records("train"),
        records("validation"),
        read=decode,
        read_window=decode_window,
        sizes=np.array(info.metadata["sizes"]),
        test=records("test") if "test" in by_split else None,
        listing=listing,
        bad=bad,
        passed_over=PassedOver(
            [*listing.passed_over, *((path, NO_PICTURE) for path in no_pictures)]
        ),
        duplicates=duplicates,
    )


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
    source = find_folder(listing, bad, seed=0, validation_share=0)
    directory = root / KerasInceptionFolder.name / config
    log(f"writing {bad.total} pictures as records into {directory}")
    for split in source.by_split.values():
        for _ in whole_pictures(source, split):  # adds undecodable pictures to `bad`
            pass
    bad.check()
    paths = [path for split in source.by_split.values() for path in split.paths or ()]
    step = max(1, len(source.sizes) // _SIZES_KEPT)
    metadata = {
        "bad": dict(bad.faults),
        "no_pictures": source.passed_over.files(NO_PICTURE),
        "copies": group_copies(paths),
        "sizes": source.sizes[::step].tolist(),
    }
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
        by_split = self._listing.by_split
        return {name: self._generate_examples(x) for name, x in by_split.items() if x}

    def _generate_examples(self, files: LabeledPaths) -> Iterator:
        left_out = {*self._metadata["bad"], *self._metadata["no_pictures"]}
        for position, (path, label) in enumerate(files):
            if str(path) not in left_out:
                encoded = io.BytesIO(as_decodable_bytes(path.read_bytes()))
                example = {"image": encoded, "label": label}
                yield position, example | {"position": position}
