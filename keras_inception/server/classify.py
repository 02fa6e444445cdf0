"""Classify and regress: signatures from `tf.Example`s to outputs of fixed names.

The rules are those of classifier.cc and regressor.cc in
tensorflow_serving/servables/tensorflow: the names of a signature's inputs and outputs
decide, not its method name, and what it returned is checked after it has run.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_inception.export.signatures import CLASSIFY, DEFAULT
from keras_inception.server.limits import ServingError
from keras_inception.server.servable import Servable


def classify(
    servable: Servable, signature: str, examples: Sequence[bytes]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores `(examples, classes)` for serialized `tf.Example`s.

    A signature that returns no `classes` gives empty labels, one that returns no
    `scores` gives zeros.
    """
    # PreProcessClassification
    returned = _outputs(servable, signature)
    if len(returned) > 2 or not returned & {"classes", "scores"}:
        raise _not_for("classification", signature, returned, f"such as {CLASSIFY!r}")
    outputs = _run(servable, signature, examples)
    # PostProcessClassificationResult
    for name, dtype in (("classes", tf.string), ("scores", tf.float32)):
        if name in outputs:
            _check(name, outputs[name], dtype, len(examples), (2,))
    shape = outputs[min(returned & {"classes", "scores"})].shape
    labels = outputs.get("classes", np.full(shape, b"", object))
    scores = outputs.get("scores", np.zeros(shape, "float32"))
    if labels.shape != scores.shape:
        raise ServingError(
            f"The signature returned {labels.shape[1]} classes and {scores.shape[1]} "
            "scores for an example; the numbers must be equal"
        )
    return labels, scores


def regress(
    servable: Servable, signature: str, examples: Sequence[bytes]
) -> np.ndarray:
    """A value for each serialized `tf.Example`."""
    # PreProcessRegression
    returned = _outputs(servable, signature)
    if returned != {"outputs"}:
        raise _not_for("regression", signature, returned, "which returns 'outputs'")
    values = _run(servable, signature, examples)["outputs"]
    # PostProcessRegressionResult
    _check("outputs", values, tf.float32, len(examples), (1, 2))
    if values.size != len(examples):
        raise ServingError(
            f"The signature returned outputs of shape {list(values.shape)}; regress "
            "needs one value for each example"
        )
    return values.ravel()


def _outputs(servable: Servable, signature: str) -> set[str]:
    """The output names of a signature whose only input is `inputs`, strings."""
    takes = servable.inputs(signature)
    if set(takes) != {"inputs"} or takes["inputs"].dtype != tf.string:
        raise ServingError(
            f"The signature {signature or DEFAULT!r} takes {', '.join(sorted(takes))}; "
            "classify and regress need one that takes serialized examples as 'inputs'"
        )
    return set(servable.signature_def[signature or DEFAULT]["outputs"])


def _run(
    servable: Servable, signature: str, examples: Sequence[bytes]
) -> dict[str, np.ndarray]:
    if not examples:
        raise ServingError("Input is empty.")
    serialized = np.empty(len(examples), object)
    serialized[:] = examples
    return servable.predict(signature, {"inputs": serialized})


def _check(
    name: str, output: np.ndarray, dtype: tf.DType, rows: int, ranks: tuple[int, ...]
) -> None:
    found = tf.as_dtype(np.asarray(output).dtype)
    shape = np.shape(output)
    if len(shape) not in ranks or shape[0] != rows or found != dtype:
        raise ServingError(
            f"The signature returned {name} of type {found.name} and shape "
            f"{list(shape)} for {rows} examples; needed are {dtype.name} and one row "
            "for each example"
        )


def _not_for(
    kind: str, signature: str, returned: set[str], needed: str
) -> ServingError:
    return ServingError(
        f"Expected {kind} signature, {needed}: {signature or DEFAULT!r} returns "
        f"{', '.join(sorted(returned))}"
    )
