"""Evaluation by 1, 10 or 144 crops, of one model or an ensemble, with its mistakes.

The files:

    crops     where the crops of a picture lie, and their pixels
    evaluate  `evaluate`: probabilities beside the truth, and figures of them
    plots     the confusion table and the worst mistakes as PNG files
"""

from keras_inception.evaluation.crops import (
    CROP_COUNTS,
    Crop,
    crop_geometry,
    take_crops,
)
from keras_inception.evaluation.evaluate import (
    Evaluation,
    Mistake,
    accuracy_interval,
    evaluate,
    predict_crops,
)
from keras_inception.evaluation.plots import draw_confusion, draw_mistakes

__all__ = [
    "CROP_COUNTS",
    "Crop",
    "Evaluation",
    "Mistake",
    "accuracy_interval",
    "crop_geometry",
    "draw_confusion",
    "draw_mistakes",
    "evaluate",
    "predict_crops",
    "take_crops",
]
