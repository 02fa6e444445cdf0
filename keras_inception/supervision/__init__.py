"""Auxiliary classifiers: describe heads, attach them to a model, train them.

The files, each standing on those above it:

    heads           `AuxiliaryHead` and its layers; superclasses from a file
    losses          losses for every output, and loss weights that can change
    model           `DeeplySupervised`: one label and one weight for all heads
    head_placement  endpoints that divide the computation evenly
    attach          attaching heads to a graph, and detaching them
"""

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
    output_name,
    read_superclasses,
)
from keras_inception.supervision.losses import LossWeights, SmoothedCrossentropy
from keras_inception.supervision.model import DeeplySupervised

__all__ = [
    "AUXILIARY_WEIGHT",
    "AuxiliaryHead",
    "DeeplySupervised",
    "LossWeights",
    "SmoothedCrossentropy",
    "as_head",
    "attach_auxiliary",
    "detach_auxiliary",
    "evenly_placed",
    "output_name",
    "plain_classifier",
    "read_superclasses",
    "supervise",
]
