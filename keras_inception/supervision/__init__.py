"""Auxiliary classifiers: describing heads, hanging them on a model, training them."""

from keras_inception.supervision.attach import (
    attach_auxiliary,
    detach_auxiliary,
    plain_classifier,
    supervise,
)
from keras_inception.supervision.head_placement import evenly_placed
from keras_inception.supervision.heads import (
    AUXILIARY_WEIGHT,
    AuxiliaryHead,
    as_head,
    read_superclasses,
)
from keras_inception.supervision.losses import LossWeights
from keras_inception.supervision.model import DeeplySupervised

__all__ = [
    "AUXILIARY_WEIGHT",
    "AuxiliaryHead",
    "DeeplySupervised",
    "LossWeights",
    "as_head",
    "attach_auxiliary",
    "detach_auxiliary",
    "evenly_placed",
    "plain_classifier",
    "read_superclasses",
    "supervise",
]
