"""Every endpoint's features, pooled to vectors as a head would pool them."""

import math

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled
from keras_inception.supervision.head_placement import Endpoint

MOST_FEATURES = 1024  # of a pooled map, unless it has more channels


class PooledFeatures:
    """From a batch to main's answers and every endpoint's features, as arrays.

    Maps are averaged over a grid of 4x4, 2x2 or 1x1 cells, the finest with at most
    1,024 numbers; sequences over their steps; vectors stay.

    Args:
        model: A classifier with one input.
        main: Its main output.
        endpoints: Of the same graph.
    """

    def __init__(
        self,
        model: keras.Model,
        main: keras.KerasTensor,
        endpoints: list[Endpoint],
    ):
        pooled = [_pool(endpoint.tensor) for endpoint in endpoints]
        self.graph = keras.Model([model.inputs[0]], [main, *pooled])
        self.sizes = [vector.shape[-1] for vector in pooled]
        self._forward = compiled(self.graph)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Main's answers `(batch, classes)`; `(batch, size)` for each endpoint."""
        batch = ops.convert_to_tensor(images, self.graph.inputs[0].dtype)
        main, *vectors = map(ops.convert_to_numpy, self._forward([batch]))
        return main, vectors


def _pool(tensor: keras.KerasTensor) -> keras.KerasTensor:
    in_float32 = {"dtype": "float32"}  # sums over a map overflow float16
    rank = len(tensor.shape)
    if rank == 2:
        return keras.layers.Identity(**in_float32)(tensor)
    if rank == 3:
        return keras.layers.GlobalAveragePooling1D(**in_float32)(tensor)
    *sides, channels = tensor.shape[1:]
    grid = next(
        (g for g in (4, 2) if g <= min(sides) and g * g * channels <= MOST_FEATURES), 1
    )
    if grid == 1:
        return keras.layers.GlobalAveragePooling2D(**in_float32)(tensor)
    cells = keras.layers.AdaptiveAveragePooling2D(grid, **in_float32)(tensor)
    return keras.layers.Reshape((math.prod(cells.shape[1:]),), **in_float32)(cells)
