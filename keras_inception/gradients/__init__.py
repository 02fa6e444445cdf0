"""Seeing what the auxiliary heads do: the gradient by stage and by loss."""

from keras_inception.gradients.callback import GradientFlow
from keras_inception.gradients.comparison import (
    TrainingCurve,
    compare_without_heads,
    reinitialized,
)
from keras_inception.gradients.explanation import explain, share_of_heads
from keras_inception.gradients.flow import TOTAL, GradientRow, Probe, gradient_flow
from keras_inception.gradients.report import write_report
from keras_inception.gradients.stages import weights_by_stage

__all__ = [
    "TOTAL",
    "GradientFlow",
    "GradientRow",
    "Probe",
    "TrainingCurve",
    "compare_without_heads",
    "explain",
    "gradient_flow",
    "reinitialized",
    "share_of_heads",
    "weights_by_stage",
    "write_report",
]
