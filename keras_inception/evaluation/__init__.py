"""Honest numbers: 1, 10 and 144 crops, ensembles, and where a model is wrong."""

from keras_inception.evaluation.crops import (
    CROP_COUNTS,
    Crop,
    crop_geometry,
    take_crops,
)
from keras_inception.evaluation.evaluate import (
    Evaluation,
    Mistake,
    evaluate,
    predict_crops,
)
from keras_inception.evaluation.plots import draw_confusion, draw_mistakes

__all__ = [
    "CROP_COUNTS",
    "Crop",
    "Evaluation",
    "Mistake",
    "crop_geometry",
    "draw_confusion",
    "draw_mistakes",
    "evaluate",
    "predict_crops",
    "take_crops",
]
