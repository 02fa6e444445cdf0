"""Seeing what the auxiliary heads do: the gradient by stage and by loss."""

from keras_inception.gradients.callback import GradientFlow
from keras_inception.gradients.comparison import (
    Course,
    compare_without_heads,
    renewed,
)
from keras_inception.gradients.flow import TOTAL, GradientRow, Probe, gradient_flow
from keras_inception.gradients.reading import read, share_of_heads
from keras_inception.gradients.report import write_report
from keras_inception.gradients.stages import weights_by_stage

__all__ = [
    "TOTAL",
    "Course",
    "GradientFlow",
    "GradientRow",
    "Probe",
    "compare_without_heads",
    "gradient_flow",
    "read",
    "renewed",
    "share_of_heads",
    "weights_by_stage",
    "write_report",
]
