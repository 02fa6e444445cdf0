"""Mixing the pictures of a training batch, by `keras.layers.CutMix` and `MixUp`.

All random numbers are drawn from a key, without state, as in `augmentation`.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

MIXUP_ALPHA = 0.2  # of the beta distribution of the weights; CutMix's are uniform

Mix = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def mixer(classes: int) -> Mix:
    """Makes a function that mixes a batch: from images, labels and a key.

    CutMix pastes a rectangle of another picture of the batch into each picture, MixUp
    blends the two; the key decides which of them a batch gets, and all else.

    Returns:
        A function of float32 images `(batch, height, width, 3)`, class indices
        `(batch,)` and a key of two integers. It returns images, and labels as float32
        weights of the classes `(batch, classes)` that sum to 1.
    """
    layers = [
        # the policy of a mixed precision would round pixels
        keras.layers.CutMix(dtype="float32"),
        keras.layers.MixUp(MIXUP_ALPHA, dtype="float32"),
    ]
    for layer in layers:
        layer.backend.set_backend("tensorflow")

    def mix(images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple:
        weights = tf.one_hot(labels, classes)

        def by(layer: keras.layers.Layer) -> tuple:
            change = layer.get_random_transformation(images, seed=_Seeds(key))
            mixed = layer.transform_images(images, change)
            return mixed, layer.transform_labels(weights, change)

        choice = tf.random.stateless_uniform((), key, alg="philox")
        return tf.cond(choice < 0.5, *[lambda layer=x: by(layer) for x in layers])

    return mix


class _Seeds(keras.random.SeedGenerator):
    """Seeds that follow from a key; Keras's generator keeps its state in a variable."""

    def __init__(self, key: tf.Tensor):  # Keras's own would create the variable
        self.key, self.drawn = key, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self.drawn += 1
        return tf.random.fold_in(self.key, self.drawn, alg="philox")
