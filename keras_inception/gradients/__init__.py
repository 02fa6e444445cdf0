"""Seeing what the auxiliary heads do: the gradient by stage and by loss."""

from keras_inception.gradients.flow import TOTAL, GradientRow, Probe, gradient_flow
from keras_inception.gradients.stages import weights_by_stage

__all__ = ["TOTAL", "GradientRow", "Probe", "gradient_flow", "weights_by_stage"]
