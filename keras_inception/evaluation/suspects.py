"""Finds the pictures whose label is probably wrong, from what the outputs say of them.

A network memorizes wrong labels late in training, and first in its last layers. So the
heads' outputs are used as well: docs/data.md has measurements.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np

from keras_inception.graph import layer_of
from keras_inception.outputs import MAIN, Output, output_activation, outputs_by_name

_LEAST = 1e-9  # a probability in float32 may be 0


@dataclasses.dataclass(frozen=True)
class Suspects:
    """How probable every picture's label is, and which class the outputs suggest.

    Attributes:
        scores: How suspicious each label is, float `(pictures,)`. 1: the outputs give
            it no probability; 0: as much as other pictures' of that label; less than 0:
            more than that.
        suggested: The class that the outputs together find most probable, which may be
            the label, int `(pictures,)`.
        label_probabilities: For each output, the probability of the label (of its
            superclass, where an output predicts those), `(pictures,)`.
    """

    scores: np.ndarray
    suggested: np.ndarray
    label_probabilities: dict[str, np.ndarray]

    @property
    def ranking(self) -> np.ndarray:
        """The pictures' numbers, the most suspicious first, `(pictures,)`."""
        return np.argsort(-self.scores, kind="stable")


def find_suspects(
    probabilities: Mapping[str, np.ndarray],
    labels: np.ndarray,
    splits: np.ndarray | None = None,
) -> Suspects:
    """Scores every label by the geometric mean of the outputs' probabilities of it.

    In that mean a single output that finds the label improbable weighs more than one
    that has memorized it. It is compared with its average over the pictures of the same
    label and split. So a class that is hard to recognize is not suspected as a whole,
    nor is a validation split, whose pictures the model did not learn from.

    Args:
        probabilities: For each output, the probability of each class, `(pictures,
            classes)`, as `class_probabilities` yields.
        labels: Class indices `(pictures,)`.
        splits: Anything that tells the splits apart, `(pictures,)`. Defaults to one.

    Raises:
        ValueError: If there is no picture.

    Example:
    >>> main = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.2, 0.8]])
    >>> found = find_suspects({"main": main}, np.array([0, 0, 0, 1]))
    >>> found.ranking[0], found.suggested[2], found.scores.round(2)
    (np.int64(2), np.int64(1), array([-0.59, -0.24,  0.82,  0.  ]))
    """
    labels = np.asarray(labels)
    if not len(labels):
        raise ValueError("There is no picture whose label could be wrong.")
    splits = np.zeros(len(labels), int) if splits is None else np.asarray(splits)
    logs = [np.log(np.maximum(found, _LEAST)) for found in probabilities.values()]
    mean = np.exp(np.mean(logs, axis=0))
    of_label = _at(mean, labels)
    _, group = np.unique(splits, return_inverse=True)
    group = group * mean.shape[1] + labels
    usual = np.bincount(group, of_label) / np.maximum(np.bincount(group), 1)
    scores = 1 - of_label / usual[group]
    by_output = {name: _at(found, labels) for name, found in probabilities.items()}
    return Suspects(scores, mean.argmax(axis=1), by_output)


def class_probabilities(
    model: keras.Model, batches: Iterable[np.ndarray], mirror: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """Predicts every output's probability of each class.

    An output that predicts superclasses gives every class the probability of its
    superclass. Logits go through a softmax.

    Args:
        model: A classifier with one output, or a dict of outputs, one of them `main`.
        batches: Raw RGB pixels 0..255, each `(batch, input_size, input_size, 3)`.
        mirror: Whether to average over each picture and its mirror image. Defaults to
            False.

    Yields:
        For each batch a dict by output, float32 `(batch, classes)`.

    Raises:
        ValueError: If an output is neither probabilities nor logits of the classes.
    """
    outputs = outputs_by_name(model)
    if MAIN not in outputs:
        raise ValueError(
            f"{model.name} has several outputs, none of which is called {MAIN!r}: "
            f"{', '.join(outputs)}. attach_auxiliary() makes models that have one."
        )
    columns = {name: _columns(name, outputs) for name in outputs}
    logits = {n for n, x in outputs.items() if output_activation(x) == "linear"}
    predictor = keras.Model(model.input, outputs)

    def predict(batch: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        for name, values in predictor.predict_on_batch(batch).items():
            values = keras.ops.softmax(values) if name in logits else values
            values = keras.ops.convert_to_numpy(values)
            if (values < 0).any() or not np.allclose(values.sum(axis=1), 1, atol=1e-2):
                raise ValueError(
                    f"The output {name!r} of {model.name} is neither probabilities, "
                    "which add up to 1, nor logits. Use a model whose outputs end in a "
                    "softmax."
                )
            found[name] = values[:, columns[name]]
        return found

    for batch in batches:
        found = predict(batch)
        if mirror:
            mirrored = predict(batch[:, :, ::-1])
            found = {name: (found[name] + mirrored[name]) / 2 for name in found}
        yield found


def _columns(name: str, outputs: Mapping[str, keras.KerasTensor]) -> np.ndarray:
    """The column of an output for each class: its own or its superclass's."""
    classes = np.arange(outputs[MAIN].shape[-1])
    layer = layer_of(outputs[name])
    columns = layer.own_labels(classes) if isinstance(layer, Output) else classes
    columns = keras.ops.convert_to_numpy(columns)
    if columns.max() + 1 != outputs[name].shape[-1]:
        raise ValueError(
            f"The output {name!r} has {outputs[name].shape[-1]} columns, {MAIN!r} has "
            f"{len(classes)}: it predicts neither the classes nor superclasses."
        )
    return columns


def _at(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
