"""From DATA to pipelines for `fit`: digits, a folder of pictures, or TFDS.

`find` finds and checks the pictures, `load` makes pipelines of them:

    loading        `find`, which finds the digits too, and `load`
    listing        `Listing`: the files of a dataset by class and split, not opened
    layouts        makes a listing of a folder of class folders
    labels_csv     makes a listing of a CSV file
    walk           the files below a folder, with hidden and machine-made ones marked
    folders        makes a source of a listing: files examined, counted, divided
    manifest       the pictures that a run learned from
    passed_over    files that are left out on purpose
    duplicates     files that are the same byte for byte
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
from keras_inception.data.listing import Listing
from keras_inception.data.loading import Data, find, is_files, list_files, load
from keras_inception.data.manifest import Manifest
from keras_inception.data.passed_over import PassedOver
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
    "Listing",
    "Manifest",
    "PassedOver",
    "Source",
    "Split",
    "augmented",
    "balanced_class_weights",
    "draw_contact_sheet",
    "find",
    "fit_square",
    "is_files",
    "list_files",
    "load",
    "load_picture",
    "pipeline",
    "sample",
    "training_pipeline",
    "whole_pictures",
]
