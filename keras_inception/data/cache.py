"""A folder's pictures written once as records of TensorFlow Datasets.

Many small files are slow to open, the more so over a network; records are read from end
to end. Every picture is decoded once while they are written, so that none is bad.
"""

import contextlib
import functools
import hashlib
import io
import re

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_inception.data import records
from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.folders import Listing, find_folder
from keras_inception.data.pictures import examine
from keras_inception.data.pipelines import whole_pictures
from keras_inception.data.splits import Source, stratified_mask

_BUILDER = "keras_inception_folder"
_VERSION = "1.0.0"
_SIZES_KEPT = 1000


def find_cached(
    listing: Listing, bad: BadPictures, data_dir, *, seed: int, validation_share: float
) -> Source:
    """What `find_folder` finds, read from records, which are written if need be.

    The records are those of the folder as it is: a file that is new, gone or changed
    makes new ones. The same pictures are held out as without them.

    Raises:
        ValueError: As `find_folder`.
    """
    tfds = records.import_tfds()
    root = records.records_directory(data_dir)
    slug = re.sub(r"\W+", "_", listing.root.resolve().name.lower()).strip("_")
    config = f"{slug or 'pictures'}-{_fingerprint(listing)[:12]}"
    directory = root / _BUILDER / config / _VERSION
    if not (directory / "dataset_info.json").is_file():
        _write(tfds, root, config, listing, bad)
    info = tfds.builder_from_directory(directory).info
    bad.total = len(listing.train) + len(listing.validation or [])
    for path, fault in info.metadata["bad"].items():
        bad.add(path, fault)
    bad.check()
    decoders = {"image": tfds.decode.SkipDecoding()}

    def parse(record):
        example = info.features.deserialize_example(record, decoders=decoders)
        return example["position"], example["image"], example["label"]

    def split(name, files, chosen):
        labels = np.array([label for _, label in files], "int32")
        return records.RecordSplit(
            records.record_files(info.splits[name]),
            parse,
            int(chosen.sum()),
            records.block_size(info.splits[name]),
            chosen,
            [str(path) for path, _ in files],
            labels[chosen],
        )

    good = _good(listing.train, bad)
    if listing.validation is None:
        labels = np.array([label for _, label in listing.train])
        held_out = np.zeros_like(good)
        held_out[good] = stratified_mask(
            labels[good], listing.class_names, seed=seed, share=validation_share
        )
        validation = split("train", listing.train, held_out)
        good &= ~held_out
    else:
        files = listing.validation
        validation = split("validation", files, _good(files, bad))
    return Source(
        listing.root.resolve().name,
        listing.class_names,
        split("train", listing.train, good),
        validation,
        records.read,
        records.read_window,
        sizes=np.array(info.metadata["sizes"]),
        bad=bad,
    )


def _good(files, bad: BadPictures) -> np.ndarray:
    return np.array([str(path) not in bad.faults for path, _ in files])


def _fingerprint(listing: Listing) -> str:
    """A digest of every file's place, size and time of change."""
    digest = hashlib.sha256()
    for path, label in [*listing.train, *(listing.validation or [])]:
        try:
            status = path.stat()
            state = status.st_size, status.st_mtime_ns
        except OSError:
            state = None
        digest.update(repr((str(path.resolve()), label, state)).encode())
    return digest.hexdigest()


def _write(tfds, root, config: str, listing: Listing, bad: BadPictures) -> None:
    source = find_folder(listing, bad, seed=0, validation_share=0.5)
    print(f"writing {bad.total} pictures as records into {root / _BUILDER / config}")
    for split in (source.train, source.validation):
        for _ in whole_pictures(source, split):  # names those that can't be decoded
            pass
    bad.check()
    step = max(1, len(source.sizes) // _SIZES_KEPT)
    metadata = {
        "bad": {fault["file"]: fault["fault"] for fault in bad.report()},
        "sizes": source.sizes[::step].tolist(),
    }
    builder = _builder_class()(
        listing, metadata, data_dir=root, config=tfds.core.BuilderConfig(name=config)
    )
    with contextlib.redirect_stdout(io.StringIO()):  # speaks of downloading
        builder.download_and_prepare()


@functools.cache
def _builder_class():
    """The builder; made where it is needed, as TFDS must be imported for it."""
    tfds = records.import_tfds()

    class KerasInceptionFolder(tfds.core.GeneratorBasedBuilder):
        """Pictures of class folders, as their files are."""

        VERSION = tfds.core.Version(_VERSION)

        def __init__(self, listing: Listing, metadata: dict, **arguments):
            self._listing, self._metadata = listing, metadata
            super().__init__(**arguments)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(None, None, 3)),
                        "label": tfds.features.ClassLabel(
                            names=self._listing.class_names
                        ),
                        "position": tf.int64,
                    }
                ),
                supervised_keys=("image", "label"),
                metadata=tfds.core.MetadataDict(self._metadata),
            )

        def _split_generators(self, manager):
            del manager  # nothing is downloaded
            splits = {"train": self._listing.train}
            if self._listing.validation is not None:
                splits["validation"] = self._listing.validation
            return {name: self._generate_examples(s) for name, s in splits.items()}

        def _generate_examples(self, files):
            for position, (path, label) in enumerate(files):
                if str(path) not in self._metadata["bad"]:
                    yield (
                        position,
                        {"image": _encoded(path), "label": label, "position": position},
                    )

    return KerasInceptionFolder


def _encoded(path):
    """A file as it is, or as PNG if TensorFlow can't decode it."""
    if examine(path)[0]:
        return str(path)
    with Image.open(path) as picture:
        file = io.BytesIO()
        picture.convert("RGB").save(file, "PNG")
    file.seek(0)
    return file
