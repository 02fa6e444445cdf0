"""An exported model as a function, for Python and for `keras-inception predict`."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from keras_inception.data.headers import DAMAGED
from keras_inception.data.pictures import as_decodable_bytes
from keras_inception.export.signatures import IMAGE_BYTES
from keras_inception.export.versioning import path_of, versions

Classify = Callable[[str | Path], list[tuple[str, float]]]


def load_classifier(path: str | Path) -> Classify:
    """Loads an exported model as a function from a picture file to ranked classes.

    Args:
        path: A version, or the directory of versions, whose highest is loaded.

    Returns:
        A function from a picture file's path to `(class, score)` pairs, best first. It
        raises a `ValueError` for a file that is not a picture, and a
        `FileNotFoundError` for one that does not exist.

    Raises:
        ValueError: If there is no exported model with a `serving_bytes` signature.
    """
    path = Path(path)
    if not (path / "saved_model.pb").is_file():
        found = versions(path)
        path = path_of(path, found[-1]) if found else path
    if not (path / "saved_model.pb").is_file():
        raise ValueError(
            f"{path} has no exported model: neither saved_model.pb nor a numbered "
            "version with one, as keras-inception export writes."
        )
    loaded = tf.saved_model.load(path)
    if "serving_bytes" not in loaded.signatures:
        raise ValueError(
            f"{path} has no signature serving_bytes, which takes picture files. It "
            f"has: {', '.join(loaded.signatures) or 'none'}"
        )

    def classify(image: str | Path) -> list[tuple[str, float]]:
        if not Path(image).is_file():
            raise FileNotFoundError(f"There is no picture file {image}")
        # through `loaded`, because a signature does not keep its variables alive
        signature = loaded.signatures["serving_bytes"]
        try:
            contents = as_decodable_bytes(Path(image).read_bytes())
            answer = signature(**{IMAGE_BYTES: tf.constant([contents])})
        except tf.errors.InvalidArgumentError:
            raise ValueError(f"{image} can't be read as a picture: {DAMAGED}") from None
        except ValueError as error:
            raise ValueError(f"{image} can't be read as a picture: {error}") from None
        classes, scores = answer["classes"][0].numpy(), answer["scores"][0].numpy()
        return [(c.decode(), float(s)) for c, s in zip(classes, scores, strict=True)]

    return classify
