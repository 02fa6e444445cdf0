"""Other people's networks as classifiers of raw pixels, for heads to be attached to.

The files:

    applications  the classifiers of `keras.applications`, by name
    adapted       a model from a file, for other classes and for raw pixels
    starting      either of them, as a training or a search starts from it
"""

from keras_inception.networks.adapted import adapted
from keras_inception.networks.applications import (
    application,
    application_names,
    default_size,
    known_name,
)
from keras_inception.networks.starting import (
    load_model,
    plain_network,
    published_weights,
)

__all__ = [
    "adapted",
    "application",
    "application_names",
    "default_size",
    "known_name",
    "load_model",
    "plain_network",
    "published_weights",
]
