"""Loads the trained GoogLeNets of torchvision, Caffe and TF-Slim.

Each loader reads a file without running code from it, assigns every tensor exactly
once, and returns a `DeeplySupervised` model that takes raw RGB pixels: the order of
colors and the means that the weights were trained with are inside the model. A missing
or unexpected tensor, or one of another shape, is an error that names it. What training
keeps besides the weights is left out, and logged.

    torchvision, caffe, slim   a loader each, with the names of the source
    torch_file                 reads .pth and .safetensors files without torch
    caffe_file                 reads .caffemodel and .caffemodel.h5 files without Caffe
    slim_file                  finds and reads checkpoints, with TensorFlow
    selection                  finds the network, its classifier and heads in a file
    assign                     assigns a file's tensors to a model, all or none
    imagenet, imagenet.csv     the names of ImageNet's classes
    pretrained                 `GoogLeNet(weights=...)`: a trained trunk, new classes
"""

from keras_inception.weights.caffe import load_caffe
from keras_inception.weights.pretrained import imagenet_weights
from keras_inception.weights.slim import load_slim
from keras_inception.weights.torchvision import load_torchvision

__all__ = ["imagenet_weights", "load_caffe", "load_slim", "load_torchvision"]
