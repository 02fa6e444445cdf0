"""Loss attribution: which loss moved each stage's weights, and how far, in a training.

A gradient says what a loss asks of the weights at one moment. SGD, with momentum or
without, is linear in the gradient: if a velocity and a displacement are kept for each
loss, the displacements add up to that of the weights. The files:

    step      a training step that keeps the gradients of the losses apart
    ledger    `Ledger`: every loss's displacement, velocity and path so far
    rows      `AttributionRow`: the ledger in numbers for each stage, and sentences
    callback  `LossAttribution`, for `fit`
    report    the rows as a table, a CSV file and a picture
"""

from keras_inception.attribution.callback import LossAttribution
from keras_inception.attribution.report import read_attribution, write_attribution
from keras_inception.attribution.rows import AttributionRow, explain_attribution

__all__ = [
    "AttributionRow",
    "LossAttribution",
    "explain_attribution",
    "read_attribution",
    "write_attribution",
]
