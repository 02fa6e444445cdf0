"""Early exits: heads answer easy pictures, and the rest of the network is skipped.

`EarlyExit(model, thresholds)` cuts the model's graph at the exits and runs the parts
one after the other, each on the pictures that no exit before it has answered:

    segments     the model's graph cut at its exits, as Keras models that share weights
    confidence   how confident an answer is; temperatures; for arrays and for graphs
    batch_queue  pictures that wait between two segments until they fill a batch
    early_exit   EarlyExit: `predict`, `calibrate`, `save`, `load`
    answers      every output's answers for a dataset, which calibration starts from
    calibration  which thresholds to use, and their effect on accuracy and computation
    search       all combinations of thresholds on a grid, evaluated at once
    timing       seconds per picture, beside the main output alone
    plots        accuracy against computation and against time
    serving      the same exits as one TensorFlow function, for a SavedModel
    checks       errors for wrong exits, thresholds and pictures
"""

from keras_inception.early_exit.calibration import Calibration, OperatingPoint
from keras_inception.early_exit.early_exit import EarlyExit

__all__ = ["Calibration", "EarlyExit", "OperatingPoint"]
