"""Loads a SavedModel as TF Serving does it, in a session of TensorFlow 1.

Closing a session returns its memory and threads. `tf.saved_model.load` keeps both: 40
MiB for each small GoogLeNet that was loaded and unloaded.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import CallableOptions
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from keras_inception.export.sessions import THRESHOLDS
from keras_inception.export.signatures import IMAGE_BYTES
from keras_inception.files import plain_path
from keras_inception.outputs import MAIN
from keras_inception.server.batch_queue import Arrays
from keras_inception.server.graph_ops import GraphOps

Function = Callable[[Arrays], Arrays]

# Inputs and outputs of the signatures that this package exports, all row by row
_OURS = (
    ({"images"}, {MAIN}),
    ({"images"}, {MAIN, "exit"}),
    ({IMAGE_BYTES}, {"classes", "scores"}),
    ({IMAGE_BYTES}, {"classes", "scores", "exit"}),
    ({"images", THRESHOLDS}, {MAIN, "exit"}),
    ({IMAGE_BYTES, THRESHOLDS}, {"classes", "scores", "exit"}),
    ({"inputs"}, {"classes", "scores"}),
)


class Loaded(NamedTuple):
    """A version in memory.

    Attributes:
        functions: From arrays to arrays, by signature; called from many threads.
        definitions: The signatures' definitions; may have more than can be called.
        rows_are_independent: The signatures that this package wrote, whose answer for a
            row does not depend on the others.
        ops: The operations of the graph.
        close: Returns the memory.
        combines: Whether rows of several requests together are quicker than apart.
    """

    functions: dict[str, Function]
    definitions: dict[str, SignatureDef]
    rows_are_independent: set[str]
    ops: GraphOps
    close: Callable[[], None]
    combines: bool = True


def load_saved_model(path: Path) -> Loaded:
    """Loads the meta graph that is tagged `serve`.

    Raises:
        tf.errors.OpError, OSError, RuntimeError, ValueError: If TensorFlow can't load
            it.
    """
    session = tf.compat.v1.Session(graph=tf.Graph())
    try:
        with (
            session.graph.as_default(),
            _without_deprecation(),
            plain_path(path) as plain,
        ):
            graph = tf.compat.v1.saved_model.loader.load(
                session, [tf.saved_model.SERVING], str(plain)
            )
        definitions = dict(graph.signature_def)
        functions = {
            name: _signature(session, definition)
            for name, definition in definitions.items()
            if definition.inputs
        }
    except BaseException:
        session.close()
        raise
    ours = (path / "model_card.md").is_file()
    independent = {
        name
        for name in functions
        if ours
        and (set(definitions[name].inputs), set(definitions[name].outputs)) in _OURS
    }
    ops = GraphOps(graph.graph_def)
    return Loaded(functions, definitions, independent, ops, session.close)


def _signature(session: tf.compat.v1.Session, definition: SignatureDef) -> Function:
    feeds = {key: info.name for key, info in definition.inputs.items()}
    fetches = list({info.name for info in definition.outputs.values()})
    # `session.run` would compare shapes with the graph's, which TF Serving does not.
    call = session._make_callable_from_options(
        CallableOptions(feed=feeds.values(), fetch=fetches)
    )

    def run(inputs: Arrays) -> Arrays:
        values = dict(zip(fetches, call(*(inputs[key] for key in feeds)), strict=True))
        return {
            key: _array(values[info.name]) for key, info in definition.outputs.items()
        }

    return run


def _array(value: np.ndarray | bytes) -> np.ndarray:
    """An output; a scalar string comes as bytes, whose zeros at the end NumPy drops."""
    return np.array(value, object if isinstance(value, bytes) else None)


@contextlib.contextmanager
def _without_deprecation() -> Iterator[None]:
    """Hides TensorFlow's warning that its loader is deprecated."""
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
