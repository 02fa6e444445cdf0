"""Bringing the trained GoogLeNets that exist: torchvision's, Caffe's, TF-Slim's.

Each loader reads a file without running code from it, places every tensor exactly once,
and returns a `DeeplySupervised` model that takes raw RGB pixels: whatever the weights
were trained on (BGR, other means) is inside the model. A tensor that is missing or left
over, or of another shape, is an error that names it.
"""

from keras_inception.weights.caffe import load_caffe
from keras_inception.weights.slim import load_slim
from keras_inception.weights.torchvision import load_torchvision

__all__ = ["load_caffe", "load_slim", "load_torchvision"]
