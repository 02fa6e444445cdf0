"""Early exits: segments of one graph, thresholds for them, and their calibration."""

from keras_inception.early_exit.calibration import Calibration, OperatingPoint
from keras_inception.early_exit.early_exit import EarlyExit

__all__ = ["Calibration", "EarlyExit", "OperatingPoint"]
