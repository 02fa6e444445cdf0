"""Other people's networks as classifiers of raw pixels, for heads to be attached to.

applications  the classifiers of `keras.applications`, by name
adapted       a model from a file, for other classes and for raw pixels
"""

from keras_inception.networks.adapted import adapted
from keras_inception.networks.applications import (
    application,
    application_names,
    default_size,
    known_name,
)

__all__ = ["adapted", "application", "application_names", "default_size", "known_name"]
