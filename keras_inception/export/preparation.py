"""The steps that every export begins with: backend, main output, names, exits."""

from collections.abc import Sequence
from pathlib import Path

import keras

from keras_inception.early_exit import EarlyExit
from keras_inception.supervision import plain_classifier
from keras_inception.text import check_list


def check_backend(subject: str) -> None:
    """Raises a `RuntimeError` that begins with `subject` on JAX or PyTorch."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"{subject} is written by TensorFlow, but Keras runs on {backend}. Save "
            "the model as .keras and export it with KERAS_BACKEND=tensorflow: the file "
            "loads on every backend."
        )


def classifier_and_names(
    model: keras.Model, class_names: Sequence[str] | None
) -> tuple[keras.Model, list[str]]:
    """The single-output classifier inside a model, and a name for each of its classes.

    Names default to those the model carries, else to the class indices.
    """
    check_list("class_names", class_names)
    classifier = plain_classifier(model)
    classes = classifier.output.shape[-1]
    if class_names is None:
        class_names = getattr(model, "class_names", None)
    names = list(map(str, range(classes) if class_names is None else class_names))
    if len(names) != classes:
        raise ValueError(
            f"The model has {classes} classes; class_names must name each of them. "
            f"Received {len(names)} names."
        )
    for name in names:
        if len(f"{name}.".splitlines()) > 1:  # also if it ends with a newline
            raise ValueError(
                "A class name must be a single line, since labels.txt has a line for "
                f"each. Received: {name!r}"
            )
    return classifier, names


def exits_of(
    model: keras.Model, early_exit: EarlyExit | str | Path | None
) -> EarlyExit | None:
    """Exits of this model; a path is that of their file, which is read."""
    if early_exit is None:
        return None
    if not isinstance(early_exit, EarlyExit):
        return EarlyExit.load(early_exit, model)
    if early_exit.model is not model:
        raise ValueError(
            "early_exit belongs to another model than the one to export. Pass "
            "EarlyExit(model, thresholds) of this model, or its exits.json."
        )
    return early_exit


def write_labels(directory: Path, class_names: Sequence[str]) -> None:
    """Writes labels.txt: one class name per line, in label order."""
    directory.mkdir(exist_ok=True)
    lines = "".join(f"{name}\n" for name in class_names)
    (directory / "labels.txt").write_text(lines, encoding="utf-8")
