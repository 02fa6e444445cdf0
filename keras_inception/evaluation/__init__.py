"""Evaluation by 1, 10 or 144 crops, of one model or an ensemble, with its mistakes.

The files:

    crops     where the crops of a picture lie, and their pixels
    evaluate  `evaluate`: probabilities beside the truth, and figures of them
    suspects  labels that are probably wrong
    plots     the confusion table, the worst mistakes and activation maps, drawn
    report    `report.html`: figures, tables and drawings on one page
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
from keras_inception.evaluation.plots import (
    draw_confusion,
    draw_maps,
    draw_mistakes,
    draw_pictures,
    overlay,
)
from keras_inception.evaluation.report import write_report
from keras_inception.evaluation.suspects import (
    Suspects,
    class_probabilities,
    find_suspects,
)

__all__ = [
    "CROP_COUNTS",
    "Crop",
    "Evaluation",
    "Mistake",
    "Suspects",
    "accuracy_interval",
    "class_probabilities",
    "crop_geometry",
    "draw_confusion",
    "draw_maps",
    "draw_mistakes",
    "draw_pictures",
    "evaluate",
    "find_suspects",
    "overlay",
    "predict_crops",
    "take_crops",
    "write_report",
]
