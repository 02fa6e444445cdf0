"""The embedded digits: data that needs neither files nor a network."""

import numpy as np
import tensorflow as tf

from keras_inception.data.pictures import crop
from keras_inception.data.sources import Source
from keras_inception.data.splits import Split, stratified


def find_digits(*, seed: int, validation_share: float) -> Source:
    """Returns 1,797 handwritten digits of 8x8 pixels (UCI, part of scikit-learn)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    gray = np.round(bunch.images * (255 / 16)).astype("uint8")
    pictures = np.repeat(gray[..., None], 3, axis=-1)
    labels = bunch.target.astype("int32")
    names = [str(digit) for digit in range(10)]
    everything = Split((pictures,), labels)
    train, validation = stratified(everything, names, seed, validation_share)
    return Source(
        "digits",
        names,
        train,
        validation,
        read=tf.identity,
        read_window=lambda picture, window, side: crop(picture, window),
        sizes=np.full((len(labels), 2), 8),
        mirror=False,
        shift=1 / 16,  # half of one of their pixels, since digits touch the edge
    )
