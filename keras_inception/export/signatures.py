"""The signatures of a SavedModel, built as one list.

A `Signature` has all that the export needs of it: the function, a warm-up request, and
its row on the model card. To add a signature, add it to `build_signatures`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_inception.data.decoding import decode, fit_square
from keras_inception.defaults import input_size_of
from keras_inception.early_exit import EarlyExit
from keras_inception.early_exit.serving import serving_function
from keras_inception.export.sessions import THRESHOLDS
from keras_inception.outputs import MAIN, main_of

DEFAULT = "serving_default"  # TF Serving's, for requests that name none
EARLY_EXIT = "serving_early_exit"
# The same with the thresholds in the request
EARLY_EXIT_AT = "serving_early_exit_at"
CLASSIFY = "classify"
# The signatures that take picture files instead of pixels
ON_FILES = {
    DEFAULT: "serving_bytes",
    EARLY_EXIT: "serving_bytes_early_exit",
    EARLY_EXIT_AT: "serving_bytes_early_exit_at",
}
IMAGE_BYTES = "image_bytes"


class Signature(NamedTuple):
    """A named function of a SavedModel.

    Attributes:
        name: The name in requests.
        function: A `tf.function` from the named tensors of its `input_signature` to a
            dict of named tensors, all batch first. The variables it uses are exported
            with it.
        example: The warm-up request: a batch of one, by input name.
        takes: Describes the inputs on the model card.
        returns: Describes the outputs on the model card.
    """

    name: str
    function: tf.types.experimental.GenericFunction
    example: dict[str, np.ndarray]
    takes: str
    returns: str


def build_signatures(
    classifier: keras.Model,
    class_names: Sequence[str],
    top: int | None,
    early_exit: EarlyExit | None = None,
) -> list[Signature]:
    """Builds the signatures of a classifier of square pictures.

    `serving_bytes` and `classify` return `top` classes, or all. Exits of the same
    network add signatures with `early_exit` in their names.
    """
    size = input_size_of(classifier)
    count = len(class_names) if top is None else top

    pixels = tf.TensorSpec((None, size, size, 3), tf.float32, "images")
    files = tf.TensorSpec((None,), tf.string, IMAGE_BYTES)

    # A tf.function that the signatures call, so that the file holds the network once.
    @tf.function(input_signature=[pixels])
    @_allow_empty_batch
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(main_of(classifier(images, training=False)), tf.float32)

    def main_output(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {MAIN: probabilities(tf.cast(images, tf.float32))}

    def ranked(answer: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        scores, order = tf.math.top_k(answer.pop(MAIN), count)
        classes = tf.gather(tf.constant(class_names), order)
        return {"classes": classes, "scores": scores, **answer}

    @tf.function(input_signature=[files])
    def on_files(image_bytes):
        return ranked(main_output(pixels_of(image_bytes, size)))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "inputs")])
    def classify(inputs):
        feature = tf.io.FixedLenFeature((), tf.string)
        files = tf.io.parse_example(inputs, {IMAGE_BYTES: feature})[IMAGE_BYTES]
        return on_files(files)

    picture = tf.io.encode_png(np.full((size, size, 3), 128, "uint8")).numpy()
    example = tf.train.Example()
    example.features.feature[IMAGE_BYTES].bytes_list.value.append(picture)
    of_files = {IMAGE_BYTES: np.array([picture], object)}
    takes_files = "`image_bytes`: JPEG, PNG, GIF, BMP or WebP files `(batch,)`"
    main = "`main`: probabilities"
    classes = f"`classes` (strings), `scores` `(batch, {count})`, best first"
    signatures = [
        on_images(DEFAULT, main_output, size, "float32", main),
        on_images("serving_uint8", main_output, size, "uint8", main),
        Signature(ON_FILES[DEFAULT], on_files, of_files, takes_files, classes),
        Signature(
            CLASSIFY,
            classify,
            {"inputs": np.array([example.SerializeToString()], object)},
            f"`inputs`: serialized `tf.Example`s with the feature `{IMAGE_BYTES}`",
            classes,
        ),
    ]
    if early_exit is None:
        return signatures

    calibrated = np.array([[*early_exit.thresholds.values()]], "float32")
    # A row for each picture: TF Serving batches inputs by their first dimension.
    thresholds = tf.TensorSpec((None, calibrated.size), tf.float32, THRESHOLDS)
    at = tf.function(
        _allow_empty_batch(serving_function(early_exit)),
        input_signature=[pixels, thresholds],
    )

    def early(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return at(images, tf.tile(calibrated, [tf.shape(images)[0], 1]))

    @tf.function(input_signature=[pixels, thresholds])
    def early_at(images, thresholds):  # with names, by which a signature is called
        return at(images, thresholds)

    @tf.function(input_signature=[files])
    def early_on_files(image_bytes):
        return ranked(early(pixels_of(image_bytes, size)))

    @tf.function(input_signature=[files, thresholds])
    def early_on_files_at(image_bytes, thresholds):
        return ranked(at(pixels_of(image_bytes, size), thresholds))

    exits = "; `exit`: name of the output that answered"
    with_thresholds = f"; `thresholds` `(batch, {calibrated.size})`: " + ", ".join(
        f"`{name}`" for name in early_exit.thresholds
    )
    default = on_images(EARLY_EXIT, early, size, "float32", main + exits)
    return [
        *signatures,
        Signature(
            ON_FILES[EARLY_EXIT],
            early_on_files,
            of_files,
            takes_files,
            classes + exits,
        ),
        Signature(
            EARLY_EXIT_AT,
            early_at,
            {**default.example, THRESHOLDS: calibrated},
            default.takes + with_thresholds,
            default.returns,
        ),
        Signature(
            ON_FILES[EARLY_EXIT_AT],
            early_on_files_at,
            {**of_files, THRESHOLDS: calibrated},
            takes_files + with_thresholds,
            classes + exits,
        ),
        default,
    ]


def pixels_of(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes picture files `(batch,)` to pixels, float32 `(batch, size, size, 3)`."""
    return tf.map_fn(
        lambda contents: fit_square(decode(contents), size),
        image_bytes,
        fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
    )


def on_images(
    name: str, function: Callable, size: int, dtype: str, returns: str
) -> Signature:
    """A signature from `images`, `(batch, size, size, 3)` pixels 0..255 of a type."""
    specification = tf.TensorSpec((None, size, size, 3), dtype, "images")
    return Signature(
        name,
        tf.function(function, input_signature=[specification]),
        {"images": np.full((1, size, size, 3), 128, dtype)},
        f"`images`: {dtype} RGB pixels 0..255 `(batch, {size}, {size}, 3)`",
        returns,
    )


def _allow_empty_batch(function: Callable) -> Callable:
    """Adds a row to an empty batch, on which oneDNN's convolutions fail."""

    def padded(images: tf.Tensor, *others: tf.Tensor):
        batch = tf.shape(images)[0]
        missing = tf.cast(tf.equal(batch, 0), tf.int32)
        given = (
            tf.pad(tensor, [[0, missing]] + [[0, 0]] * (tensor.shape.rank - 1))
            for tensor in (images, *others)
        )
        return tf.nest.map_structure(lambda answer: answer[:batch], function(*given))

    return padded
