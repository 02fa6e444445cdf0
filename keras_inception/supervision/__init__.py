"""Auxiliary classifiers: describe heads, attach them to a model, train them.

The files, each standing on those above it:

    heads           `AuxiliaryHead` and its layers; superclasses from a file
    arguments       checks of the arguments of `compile` and `fit`
    losses          loss weights that can change; heads that learn main's answers
    nesting         heads inside sub-models: a flat graph, a nested config
    model           `DeeplySupervised`: one label and one weight for all heads
    head_placement  endpoints that divide the computation evenly
    attach          attaching heads to a graph, and detaching them
    features        a trunk's outputs for a dataset, kept in temporary files
    frozen_trunk    a model in two parts, where its frozen layers end
"""

from keras_inception.supervision.attach import (
    attach_auxiliary,
    detach_auxiliary,
    plain_classifier,
    supervise,
)
from keras_inception.supervision.features import (
    Features,
    check_room,
    compute_features,
)
from keras_inception.supervision.frozen_trunk import FrozenSplit, split_frozen
from keras_inception.supervision.head_placement import (
    Endpoint,
    endpoints_for_heads,
    evenly_placed,
)
from keras_inception.supervision.heads import (
    AUXILIARY_WEIGHT,
    AuxiliaryHead,
    as_heads,
    output_name,
    read_superclasses,
)
from keras_inception.supervision.losses import (
    Distillation,
    LossWeights,
    SmoothedCrossentropy,
)
from keras_inception.supervision.model import DeeplySupervised

__all__ = [
    "AUXILIARY_WEIGHT",
    "AuxiliaryHead",
    "DeeplySupervised",
    "Distillation",
    "Endpoint",
    "Features",
    "FrozenSplit",
    "LossWeights",
    "SmoothedCrossentropy",
    "as_heads",
    "attach_auxiliary",
    "check_room",
    "compute_features",
    "detach_auxiliary",
    "endpoints_for_heads",
    "evenly_placed",
    "output_name",
    "plain_classifier",
    "read_superclasses",
    "split_frozen",
    "supervise",
]
