"""Auxiliary classifiers: describing heads, hanging them on a model, training them."""

from keras_inception.supervision.activation import output_activation
from keras_inception.supervision.attaching import (
    attach_auxiliary,
    detach_auxiliary,
    plain_classifier,
    supervise,
)
from keras_inception.supervision.deeply_supervised import DeeplySupervised
from keras_inception.supervision.heads import (
    AUXILIARY_WEIGHT,
    MAIN,
    AuxiliaryHead,
    as_head,
)
from keras_inception.supervision.losses import LossWeights
from keras_inception.supervision.placing import evenly_placed
from keras_inception.supervision.superclasses import read_superclasses

__all__ = [
    "AUXILIARY_WEIGHT",
    "MAIN",
    "AuxiliaryHead",
    "DeeplySupervised",
    "LossWeights",
    "as_head",
    "attach_auxiliary",
    "detach_auxiliary",
    "evenly_placed",
    "output_activation",
    "plain_classifier",
    "read_superclasses",
    "supervise",
]
