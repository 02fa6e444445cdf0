"""From DATA to pipelines for `fit`: digits, a folder of pictures, or TFDS.

`find` finds and checks the pictures, `load` makes pipelines of them:

    loading        `find`, which finds the digits too, and `load`
    folders        a folder of class folders as a source
    tfds_datasets  a dataset of TensorFlow Datasets (TFDS) as a source
    cache          a folder rewritten as records, which read faster
    sources        `Source`: labeled pictures, found and checked, not read yet
    splits         its training and validation part, read from files or from records
    pictures       from a file to pixels: examine, decode, resize
    bad_pictures   files that can't be decoded: skipped, counted, named
    augmentation   random crops, shifts, mirroring and colors for training
    pipelines      tf.data pipelines over a source
    contact_sheet  a drawing of the pictures as the network will see them
"""

from keras_inception.data.augmentation import AUGMENTATIONS, augmented
from keras_inception.data.bad_pictures import BadPictures
from keras_inception.data.contact_sheet import draw_contact_sheet
from keras_inception.data.decoding import fit_square
from keras_inception.data.loading import Data, find, load
from keras_inception.data.pictures import load_picture
from keras_inception.data.pipelines import (
    pipeline,
    sample,
    training_pipeline,
    whole_pictures,
)
from keras_inception.data.sources import Source
from keras_inception.data.splits import Split, balanced_class_weights

__all__ = [
    "AUGMENTATIONS",
    "BadPictures",
    "Data",
    "Source",
    "Split",
    "augmented",
    "balanced_class_weights",
    "draw_contact_sheet",
    "find",
    "fit_square",
    "load",
    "load_picture",
    "pipeline",
    "sample",
    "training_pipeline",
    "whole_pictures",
]
