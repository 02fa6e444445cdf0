"""Makes Keras behave as users expect, where it does not by itself.

This file and `graph` are the only ones that use private names of Keras; see there.
"""

import collections
import contextlib
import functools
import socket
import types
import weakref
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.trainers.compile_utils import CompileMetrics, MetricsList


class LogDirections(MetricsList):
    """Shows callbacks which logs of a model should rise and which should fall.

    `EarlyStopping`, `ModelCheckpoint` and `ReduceLROnPlateau` look a log up by name
    among the model's metrics, where Keras leaves out the name of the output. This lists
    the metrics under the names of the logs. It is a metric only in form: it has no
    values and adds no log.
    """

    def __init__(self, model: keras.Model, main: str):
        keras.metrics.Metric.__init__(self, name="log_directions")
        self._model, self._main = weakref.ref(model), main

    @property
    def metrics(self) -> list[types.SimpleNamespace]:
        """The model's losses and metrics, by their names in the logs."""
        model = self._model()
        if model is None:
            return []
        directions = {f"{output}_loss": "down" for output in model.output}
        for compiled in model.metrics:
            if not isinstance(compiled, CompileMetrics) or not compiled.built:
                continue
            for of_output in compiled._flat_metrics + compiled._flat_weighted_metrics:
                for metric in of_output.metrics if of_output else []:
                    if hasattr(metric, "_direction"):
                        output = of_output.output_name or self._main
                        # Keras's name for it if an unweighted metric has the same name
                        weighted = f"{output}_weighted_{metric.name}"
                        for name in (f"{output}_{metric.name}", weighted):
                            directions[name] = metric._direction
        return [
            types.SimpleNamespace(name=name, _direction=direction)
            for name, direction in directions.items()
        ]

    @property
    def variables(self) -> list[keras.Variable]:
        return []

    def reset_state(self) -> None:
        pass

    def result(self) -> dict[str, Any]:
        return {}


@contextlib.contextmanager
def names_of_a_new_process() -> Iterator[None]:
    """Names layers within the block as if no others had been made before.

    Keras numbers unnamed layers (`conv2d_5`) throughout a process, so a network's
    endpoints would depend on the models that were built before it.
    """
    counters = "object_name_uids"
    before = global_state.get_global_attribute(counters) or {}
    made: dict[str, int] = collections.defaultdict(int)
    global_state.set_global_attribute(counters, made)
    try:
        yield
    finally:
        for name, count in before.items():
            made[name] = max(made[name], count)


def is_legacy_config(config: dict) -> bool:
    """Whether a functional model's config was made for Keras's old HDF5 format."""
    return "module" not in config["layers"][0]


def patch_multi_worker_trainer() -> None:
    """Makes Keras's `fit` work under `MultiWorkerMirroredStrategy` (keras#20585).

    Patches `reduce_per_replica`, which averages scalar logs over axis 0, and
    `_maybe_symbolic_build`, which treats a PerReplica batch as a tensor. The patch
    applies to that strategy alone, in the whole process; a second call does nothing.
    """
    import tensorflow as tf
    from keras.src.backend.tensorflow import trainer

    if hasattr(trainer, "_patched_for_workers"):
        return
    trainer._patched_for_workers = True
    reduce_per_replica = trainer.reduce_per_replica
    maybe_symbolic_build = trainer.TensorFlowTrainer._maybe_symbolic_build

    def over_workers(strategy) -> bool:
        return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def reduce_scalars(values, strategy, reduction):
        if not over_workers(strategy) or reduction not in ("auto", "mean"):
            return reduce_per_replica(values, strategy, reduction)
        # Keras passes axis=0, which scalars do not have.
        mean = functools.partial(strategy.reduce, "MEAN", axis=None)
        return keras.tree.map_structure(mean, values)

    def build_with_one_device(self, iterator=None, data_batch=None):
        strategy = self._distribute_strategy
        if not over_workers(strategy):
            return maybe_symbolic_build(self, iterator, data_batch)
        if iterator is not None:
            for _, _, batches in iterator:
                # Only the shapes are needed, so one device's part of a batch will do.
                data_batch = tf.nest.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0],
                    next(batches),
                )
                break
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    trainer.reduce_per_replica = reduce_scalars
    trainer.TensorFlowTrainer._maybe_symbolic_build = build_with_one_device


@contextlib.contextmanager
def impatient_downloads() -> Iterator[None]:
    """Makes downloads within the block fail after 20 seconds without data.

    `keras.utils.get_file`, and so `keras.applications`, would wait forever.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20.0)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
