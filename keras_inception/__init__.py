"""GoogLeNet with its auxiliary classifiers, and auxiliary classifiers for Keras.

>>> import keras_inception as ki
>>> model = ki.GoogLeNet((64, 64, 3), classes=3)
>>> model.compile(optimizer="sgd")

The names below run on every backend of Keras. What not every program needs is imported
when it is first used: `ki.evaluation`, `ki.training` and `ki.weights`, and `ki.data`,
`ki.export` and `ki.server`, which need TensorFlow.
"""

import importlib

from keras_inception import optimizers
from keras_inception.architecture import (
    ARCHITECTURES,
    AUXILIARY_ENDPOINTS,
    GOOGLENET,
    GOOGLENET_SLIM,
    GOOGLENET_SMALL,
    GOOGLENET_TORCHVISION,
    Architecture,
)
from keras_inception.early_exit import EarlyExit
from keras_inception.googlenet import GoogLeNet
from keras_inception.gradients import GradientFlow, GradientRow, gradient_flow
from keras_inception.graph import multiply_adds
from keras_inception.layers import LocalResponseNormalization
from keras_inception.supervision import (
    AuxiliaryHead,
    DeeplySupervised,
    attach_auxiliary,
    detach_auxiliary,
    read_superclasses,
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
    "AuxiliaryHead",
    "DeeplySupervised",
    "EarlyExit",
    "GoogLeNet",
    "GradientFlow",
    "GradientRow",
    "LocalResponseNormalization",
    "attach_auxiliary",
    "data",
    "detach_auxiliary",
    "evaluation",
    "export",
    "gradient_flow",
    "multiply_adds",
    "optimizers",
    "read_superclasses",
    "training",
    "weights",
]


WHEN_USED = ("data", "evaluation", "export", "server", "training", "weights")


def __getattr__(name):
    if name in WHEN_USED:
        return importlib.import_module(f"keras_inception.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
