"""A model as a function from picture files to ranked classes, for `predict`."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_inception.data.decoding import decode, fit_square
from keras_inception.data.headers import DAMAGED
from keras_inception.data.pictures import as_decodable_bytes
from keras_inception.defaults import input_size_of
from keras_inception.export.formats import FORMATS
from keras_inception.export.signatures import IMAGE_BYTES
from keras_inception.export.versioning import path_of, versions
from keras_inception.files import plain_path
from keras_inception.supervision import plain_classifier

Ranking = list[tuple[str, float]]  # classes and scores, best first

# An export decodes ten pictures of a batch at a time. A decoded photograph takes a
# hundred times its file's size, so a batch of photographs must be smaller.
_MOST_BYTES = 4 * 2**20


def load_classifier(path: str | Path) -> "ExportedClassifier":
    """Loads an exported model as a function from a picture file to ranked classes.

    Args:
        path: A version, or the directory of versions, whose highest is loaded.

    Returns:
        A function from a picture file's path to `(class, score)` pairs, best first. It
        raises a `ValueError` for a file that is not a picture, and a
        `FileNotFoundError` for one that does not exist. Its method `rank` takes the
        contents of many files.

    Raises:
        ValueError: If there is no exported model with a `serving_bytes` signature.
    """
    path = Path(path)
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        found = versions(path)
        path = path_of(path, found[-1]) if found else path
    if not (path / "saved_model.pb").is_file():
        _check_is_no_other_format(path)
        raise ValueError(
            f"{path} has no exported model: neither saved_model.pb nor a numbered "
            "version with one, as keras-inception export writes."
        )
    with plain_path(path) as plain:
        loaded = tf.saved_model.load(plain)
    if "serving_bytes" not in loaded.signatures:
        raise ValueError(
            f"{path} has no signature serving_bytes, which takes picture files. It "
            f"has: {', '.join(loaded.signatures) or 'none'}"
        )
    return ExportedClassifier(loaded)


def _check_is_no_other_format(path: Path) -> None:
    """Raises a `ValueError` for a file of `export --format`, or its directory."""
    files = list(path.iterdir()) if path.is_dir() else [path]
    for name, known in FORMATS.items():
        if known.file in [file.name for file in files]:
            raise ValueError(
                f"{path} is an export in the format {name}. This takes a SavedModel, "
                "which export writes without --format. keras-inception serve answers "
                "from ONNX and OpenVINO files; in Python, export.open_file opens all."
            )


class Classifier:
    """Ranks classes for picture files; can be used by several threads.

    Attributes:
        classes: The number of classes in an answer, `None` if it is not known.
    """

    classes: int | None

    def __call__(self, image: str | Path) -> Ranking:
        """Returns all classes and their scores for a picture file, best first."""
        try:
            return self.rank([as_decodable_bytes(Path(image).read_bytes())])[0]
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no picture file {image}") from None
        except ValueError as error:
            raise ValueError(f"{image} can't be read as a picture: {error}") from None

    def rank(self, files: Sequence[bytes], top: int | None = None) -> list[Ranking]:
        """Returns the `top` best classes, or all, of each file with these contents.

        Raises:
            ValueError: If one of them can't be decoded.
        """
        try:
            return self._rank(files, top) if files else []
        except tf.errors.InvalidArgumentError:
            raise ValueError(DAMAGED) from None
        except tf.errors.OpError as error:
            raise ValueError(error.message.split("\n")[0]) from None

    def _rank(self, files: Sequence[bytes], top: int | None) -> list[Ranking]:
        raise NotImplementedError


class ExportedClassifier(Classifier):
    """Ranks by the signature `serving_bytes` of a loaded SavedModel."""

    def __init__(self, loaded: tf.Module):
        self._loaded = loaded  # a signature does not keep its variables alive
        self._signature = loaded.signatures["serving_bytes"]
        self.classes = self._signature.structured_outputs["scores"].shape[1]

    def _rank(self, files: Sequence[bytes], top: int | None) -> list[Ranking]:
        rankings = []
        for batch in _batches(files):
            answer = self._signature(**{IMAGE_BYTES: tf.constant(batch)})
            classes, scores = (
                answer[x][:, :top].numpy() for x in ("classes", "scores")
            )
            rankings += [
                [(name.decode(), score) for name, score in zip(*pair, strict=True)]
                for pair in zip(classes, scores.tolist(), strict=True)
            ]
        return rankings


class ModelClassifier(Classifier):
    """Ranks by the main output of a model in memory, on every backend of Keras.

    Attributes:
        model: The model, its heads included.
    """

    def __init__(self, model: keras.Model):
        size = input_size_of(model)
        self.model = model
        self._main = plain_classifier(model)
        self.classes = self._main.output.shape[-1]
        self._names = getattr(model, "class_names", None) or range(
            self._main.output.shape[-1]
        )
        self._rows = 0
        self._lock = threading.Lock()

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def decode_all(files: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(
                lambda contents: fit_square(decode(contents), size),
                files,
                fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
                # each takes the memory of a whole photograph
                parallel_iterations=os.cpu_count() or 1,
            )

        self._decode = decode_all.get_concrete_function()

    def decode(self, files: Sequence[bytes]) -> np.ndarray:
        """Returns the squares that the model takes, float32 `(files, size, size, 3)`.

        Raises:
            tf.errors.InvalidArgumentError: If one of them can't be decoded.
        """
        return self._decode(tf.constant(files)).numpy()

    def _rank(self, files: Sequence[bytes], top: int | None) -> list[Ranking]:
        images = self.decode(files)
        with self._lock:  # Keras's own state; another thread decodes meanwhile
            # A last, smaller batch is filled up: another size would be compiled anew.
            self._rows = max(self._rows, len(images))
            missing = self._rows - len(images)
            padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
            scores = self._main.predict_on_batch(padded)[: len(images)]
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        return [
            [(str(self._names[index]), float(row[index])) for index in best]
            for row, best in zip(scores, order, strict=True)
        ]


def _batches(files: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for contents in files:
        if batch and size + len(contents) > _MOST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(contents)
        size += len(contents)
    yield batch
