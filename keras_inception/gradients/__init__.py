"""Gradient flow: how much gradient each stage of a network gets from each loss.

`gradient_flow` measures and returns rows of numbers; the other files show them:

    losses       the loss of each output, as training computes it
    flow         gradient_flow, and Probe to call it many times
    callback     GradientFlow: the same in TensorBoard while a model trains
    comparison   the same network trained with its heads and without them
    explanation  sentences about a measurement or a comparison
    report       both as CSV files, figures and a page
"""

from keras_inception.gradients.callback import GradientFlow
from keras_inception.gradients.comparison import (
    TrainingCurve,
    compare_without_heads,
    draw_kernel,
    reinitialized,
)
from keras_inception.gradients.explanation import (
    explain,
    explain_comparison,
    share_of_heads,
)
from keras_inception.gradients.flow import TOTAL, GradientRow, Probe, gradient_flow
from keras_inception.gradients.losses import loss_weights_by_output
from keras_inception.gradients.report import flow_table, write_report
from keras_inception.stages import weights_by_stage

__all__ = [
    "TOTAL",
    "GradientFlow",
    "GradientRow",
    "Probe",
    "TrainingCurve",
    "compare_without_heads",
    "draw_kernel",
    "explain",
    "explain_comparison",
    "flow_table",
    "gradient_flow",
    "loss_weights_by_output",
    "reinitialized",
    "share_of_heads",
    "weights_by_stage",
    "write_report",
]
