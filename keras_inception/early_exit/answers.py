"""Every output's answers for a dataset, which calibration starts from."""

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled
from keras_inception.early_exit.checks import check_images
from keras_inception.early_exit.confidence import softmax
from keras_inception.outputs import MAIN, main_of, output_activation

Dataset = Iterable[tuple] | tuple[np.ndarray, np.ndarray]


def puts_out_logits(model: keras.Model) -> bool:
    """Whether a model's outputs are logits, judged by its main output."""
    return output_activation(model.output[MAIN]) == "linear"


def collect_answers(
    model: keras.Model, names: Sequence[str], dataset: Dataset
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Computes the answers of some outputs for a whole dataset.

    Args:
        model: A model with one input and a dict of outputs.
        names: The outputs.
        dataset: Batches of `(images, labels)`, or one such pair of arrays. Labels are
            class indices, one-hot, or a dict by output.

    Returns:
        Probabilities by output `(pictures, classes)`, and class indices `(pictures,)`.

    Raises:
        ValueError: If the dataset is empty, or its pictures do not fit the model.
    """
    outputs = [model.output[name] for name in names]
    forward = compiled(keras.Model([model.inputs[0]], outputs))
    dtype = model.inputs[0].dtype
    collected: list[list[np.ndarray]] = []
    labels = []
    for images, batch_labels in _batches(dataset):
        batch = ops.convert_to_tensor(check_images(model, images), dtype)
        collected.append([ops.convert_to_numpy(answer) for answer in forward([batch])])
        labels.append(_class_indices(batch_labels))
    if not sum(map(len, labels)):
        raise ValueError("There are no pictures to calibrate on: the dataset is empty.")
    answers = [np.concatenate(parts) for parts in zip(*collected, strict=True)]
    if puts_out_logits(model):
        answers = [softmax(logits) for logits in answers]
    return dict(zip(names, answers, strict=True)), np.concatenate(labels)


def _batches(dataset: Dataset, batch_size: int = 256) -> Iterator[tuple]:
    if not (isinstance(dataset, tuple) and len(dataset) == 2):
        for images, labels, *_ in dataset:
            yield images, main_of(labels)
        return
    images, labels = dataset
    for start in range(0, len(labels), batch_size):
        batch = slice(start, start + batch_size)
        yield images[batch], labels[batch]


def _class_indices(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    return labels.argmax(-1) if one_hot else labels.reshape(-1)
