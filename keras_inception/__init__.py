"""GoogLeNet with its auxiliary classifiers, and auxiliary classifiers for Keras.

>>> import keras_inception as ki
>>> model = ki.GoogLeNet((64, 64, 3), classes=3)
>>> model.compile(optimizer="sgd")

The map, each line standing on those above it:

    architecture  the networks as tables, their stages and endpoints
    locks, schema, files, text   locks; files written whole or not at all, and checked
                  when read; lists in messages
    event_files, html_report   TensorBoard's files; pages of reports
    graph, costs  a model's steps, endpoints and costs; private names of Keras
    keras_behavior   patches where Keras behaves otherwise than users expect
    backend       compiling and differentiating on TensorFlow, JAX and PyTorch
    layers        rows of a table as Keras layers
    outputs, stages   the `Output` layer and outputs by name; layers by stage
    batches       datasets as checked batches of pictures and class indices
    supervision   heads: describe, attach, detach, train
    network, networks   a network from its table; networks of `keras.applications`
    weights       weights of torchvision, Caffe, TF-Slim and `.keras` files
    optimizers    freezing, and learning rates by layer
    googlenet     `GoogLeNet()`
    endpoints     what a probe on each endpoint answers, and what reaching it costs
    defaults      the network, input size and augmentation that suit some pictures
    activation_maps   where in a picture each output finds its class
    early_exit, evaluation, gradients, attribution, training   what to do with a model
    data, export, server   pictures in, versions out, answers over HTTP

`data`, `export` and `server` need TensorFlow; everything else runs on every backend of
Keras. `ki.data`, `ki.evaluation`, `ki.export`, `ki.networks`, `ki.server`,
`ki.training` and `ki.weights` are imported at their first use.
"""

import importlib
from types import ModuleType

from keras_inception import optimizers
from keras_inception.activation_maps import activation_maps
from keras_inception.architecture import (
    ARCHITECTURES,
    AUXILIARY_ENDPOINTS,
    GOOGLENET,
    GOOGLENET_SLIM,
    GOOGLENET_SMALL,
    GOOGLENET_TORCHVISION,
    Architecture,
)
from keras_inception.attribution import AttributionRow, LossAttribution
from keras_inception.costs import multiply_adds
from keras_inception.early_exit import EarlyExit
from keras_inception.endpoints import EndpointRow, rank_endpoints
from keras_inception.googlenet import GoogLeNet
from keras_inception.gradients import GradientFlow, GradientRow, gradient_flow
from keras_inception.layers import LocalResponseNormalization
from keras_inception.supervision import (
    AuxiliaryHead,
    DeeplySupervised,
    attach_auxiliary,
    detach_auxiliary,
    read_superclasses,
    split_frozen,
)

__version__ = "0.1.0"

__all__ = [
    "ARCHITECTURES",
    "AUXILIARY_ENDPOINTS",
    "GOOGLENET",
    "GOOGLENET_SLIM",
    "GOOGLENET_SMALL",
    "GOOGLENET_TORCHVISION",
    "Architecture",
    "AttributionRow",
    "AuxiliaryHead",
    "DeeplySupervised",
    "EarlyExit",
    "EndpointRow",
    "GoogLeNet",
    "GradientFlow",
    "GradientRow",
    "LocalResponseNormalization",
    "LossAttribution",
    "activation_maps",
    "attach_auxiliary",
    "data",
    "detach_auxiliary",
    "evaluation",
    "export",
    "gradient_flow",
    "multiply_adds",
    "networks",
    "optimizers",
    "rank_endpoints",
    "read_superclasses",
    "split_frozen",
    "training",
    "weights",
]

_AT_FIRST_USE = (
    *("data", "evaluation", "export", "networks", "server", "training", "weights"),
)


def __getattr__(name: str) -> ModuleType:
    if name in _AT_FIRST_USE:
        return importlib.import_module(f"keras_inception.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
