"""Holding a model's endpoints and outputs beside another library's."""

import keras
import numpy as np


def endpoints(model, architecture, images) -> dict[str, np.ndarray]:
    """Every stage's values and every output's for some pictures."""
    layers = {layer.name: layer for layer in model.layers}
    stages = {
        stage: layers.get(f"{stage}_relu", layers[stage]).output
        for stage in architecture.rows
    }
    values = keras.Model(model.input, stages | model.output).predict(images, verbose=0)
    return {name: np.asarray(value) for name, value in values.items()}


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, in parts of the largest value."""
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
