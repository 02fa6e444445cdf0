"""Early exits: heads answer easy pictures, and the rest of the network is skipped.

`EarlyExit(model, thresholds)` cuts the model's graph at the exits and runs the parts
one after the other, each on the pictures that no exit before it has answered:

    segments     the model's graph cut at its exits, and the queues before the parts
    confidence   how confident an answer is; temperatures; for arrays and for graphs
    early_exit   EarlyExit: `predict`, `calibrate`, `fit`, `save`, `load`
    fitting      heads for a finished classifier, trained on what it computes
    placement    the endpoints whose exits would save most, judged by linear probes
    calibration  which thresholds to use, and their effect on accuracy and computation
    answers      the answers of all outputs to labeled pictures
    search       all combinations of thresholds on a grid, evaluated at once
    points       the effect of one combination, tested on other pictures
    bounds       how much accuracy exits cost beyond the pictures that were counted
    timing       seconds per picture, compared with the main output alone
    plots        accuracy against computation and against time
    serving      the same exits as one TensorFlow function, for a SavedModel
    checks       errors for wrong exits, thresholds and pictures
"""

from keras_inception.early_exit.calibration import Calibration
from keras_inception.early_exit.early_exit import EarlyExit, read_exits
from keras_inception.early_exit.points import OperatingPoint

__all__ = ["Calibration", "EarlyExit", "OperatingPoint", "read_exits"]
