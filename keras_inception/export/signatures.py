"""What an exported model can be asked: its signatures, gathered in one list.

A signature brings all that the writing of a model needs of it: the function, a request
to warm it up with, and its line on the model card. One more is one more in `gather`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_inception.data.pictures import decode, fit_square
from keras_inception.defaults import input_size_of
from keras_inception.early_exit import EarlyExit
from keras_inception.early_exit.serving import serving_function
from keras_inception.outputs import MAIN

DEFAULT = "serving_default"  # what TF Serving takes where a request names none
CLASSIFY = "classify"
IMAGE_BYTES = "image_bytes"


class Signature(NamedTuple):
    """One way to ask an exported model.

    Attributes:
        name: As requests give it.
        function: A `tf.function` from the named tensors of its `input_signature` to a
            dict of named tensors, batch first in all of them. The variables that it
            uses are exported with it.
        example: A request to warm it up with: a batch of one, by input name.
        takes: What goes in, for the model card.
        returns: What comes out, for the model card.
    """

    name: str
    function: Callable[..., dict[str, tf.Tensor]]
    example: dict[str, np.ndarray]
    takes: str
    returns: str


def gather(
    main: keras.Model,
    class_names: Sequence[str],
    top: int | None,
    early_exit: EarlyExit | None = None,
) -> list[Signature]:
    """The signatures of a classifier of square pictures.

    Args:
        main: A model with one input of pictures and one output of probabilities.
        class_names: In label order.
        top: How many classes the answers by name hold; `None` for all.
        early_exit: Exits of the same network, for one signature more.
    """
    side = input_size_of(main)
    probabilities = _probabilities(main, side)
    count = len(class_names) if top is None else top

    def ranked(image_bytes):
        images = tf.map_fn(
            lambda contents: fit_square(decode(contents), side),
            image_bytes,
            fn_output_signature=tf.TensorSpec((side, side, 3), tf.float32),
        )
        scores, order = tf.math.top_k(probabilities(images), count)
        return {"classes": tf.gather(tf.constant(class_names), order), "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, IMAGE_BYTES)])
    def serving_bytes(image_bytes):
        return ranked(image_bytes)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "inputs")])
    def classify(inputs):
        feature = tf.io.FixedLenFeature((), tf.string)
        return ranked(tf.io.parse_example(inputs, {IMAGE_BYTES: feature})[IMAGE_BYTES])

    def main_of(images):
        return {MAIN: probabilities(tf.cast(images, tf.float32))}

    picture = _grey_png(side)
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))
    example = tf.train.Example(
        features=tf.train.Features(feature={IMAGE_BYTES: feature})
    )
    exits = []
    if early_exit is not None:
        exits = [
            on_images(
                "serving_early_exit",
                _of_any_batch(serving_function(early_exit)),
                side,
                "float32",
                "`main`: probabilities; `exit`: name of the output that answered",
            )
        ]
    classes = f"`classes` (strings), `scores` `(batch, {count})`, best first"
    return [
        on_images(DEFAULT, main_of, side, "float32", "`main`: probabilities"),
        on_images("serving_uint8", main_of, side, "uint8", "`main`: probabilities"),
        Signature(
            "serving_bytes",
            serving_bytes,
            {IMAGE_BYTES: np.array([picture], object)},
            "`image_bytes`: JPEG, PNG, GIF or BMP files of any size `(batch,)`",
            classes,
        ),
        Signature(
            CLASSIFY,
            classify,
            {"inputs": np.array([example.SerializeToString()], object)},
            f"`inputs`: serialized `tf.Example`s with the feature `{IMAGE_BYTES}`",
            classes,
        ),
        *exits,
    ]


def on_images(
    name: str,
    function: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    side: int,
    dtype: str,
    returns: str,
) -> Signature:
    """A signature whose one input is `images`, `(batch, side, side, 3)` pixels 0..255.

    Args:
        name: As requests give it.
        function: From such a tensor to a dict of named tensors.
        side: Of the pictures in pixels.
        dtype: Of the pixels.
        returns: What comes out, for the model card.
    """
    specification = tf.TensorSpec((None, side, side, 3), dtype, "images")
    return Signature(
        name,
        tf.function(function, input_signature=[specification]),
        {"images": np.full((1, side, side, 3), 128, dtype)},
        f"`images`: {dtype} RGB pixels 0..255 `(batch, {side}, {side}, 3)`",
        returns,
    )


def _probabilities(main: keras.Model, side: int) -> Callable[[tf.Tensor], tf.Tensor]:
    @_of_any_batch
    def main_output(images):
        outputs = main(images, training=False)
        return outputs[MAIN] if isinstance(outputs, dict) else outputs

    # A function of its own: the network is in the file once, and not per signature.
    specification = tf.TensorSpec((None, side, side, 3), tf.float32)
    return tf.function(main_output, input_signature=[specification])


def _of_any_batch(function: Callable) -> Callable:
    """oneDNN's convolutions fail on an empty batch: it gets one picture for a while."""

    def padded(images):
        batch = tf.shape(images)[0]
        missing = tf.cast(tf.equal(batch, 0), tf.int32)
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        return tf.nest.map_structure(lambda answer: answer[:batch], function(images))

    return padded


def _grey_png(side: int) -> bytes:
    pixels = np.full((side, side, 3), 128, "uint8")
    return tf.io.encode_png(pixels).numpy()
