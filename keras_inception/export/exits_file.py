"""Early exits as one file for ONNX Runtime or OpenVINO."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_inception.batches import Dataset
from keras_inception.early_exit import EarlyExit
from keras_inception.early_exit.answers import Answer, collect_answers
from keras_inception.early_exit.calibration import Goal, answer_cost, calibrate
from keras_inception.export.exit_graph import (
    compose,
    exportable_segments,
    tensor_names,
)
from keras_inception.export.folding import inference_model
from keras_inception.export.sessions import (
    EXIT,
    EXITS,
    IMAGES,
    THRESHOLDS,
    open_session,
)
from keras_inception.export.writers import (
    TOLERANCE,
    AnswersDiffer,
    Calibration,
    Normalization,
    check_alike,
    exported,
    normalizations,
    save,
)
from keras_inception.outputs import MAIN

NEVER = 2.0  # a threshold that no confidence reaches


def write_exits(
    early_exit: EarlyExit,
    path: Path,
    normalization: Normalization,
    calibration: Calibration,
    held_out: Dataset | None,
) -> EarlyExit:
    """Writes early exits, and compares the file with the model in its runtime.

    With pictures for `calibration` the file computes in integers, and its thresholds
    are chosen anew on the labeled pictures `held_out`. Returns the exits with the
    thresholds of the file.
    """
    folded = inference_model(early_exit.model, normalization)
    segments = early_exit.on(folded)
    models = exportable_segments(segments)
    feeds: Sequence[list | None] = [None] * len(models)
    if calibration is not None:
        feeds = _feeds(segments, models, calibration)
    floats = normalizations(folded)
    graphs = [
        exported(model, feed, floats) for model, feed in zip(models, feeds, strict=True)
    ]

    def write(early_exit: EarlyExit) -> None:
        composed = compose(early_exit.on(folded), graphs)
        save(composed, path, {EXITS: json.dumps(early_exit.thresholds)})

    write(early_exit)
    _compare(early_exit, path, exact=calibration is None)
    if held_out is not None:
        early_exit = _recalibrated(early_exit, held_out, AnswersByExit(path))
        write(early_exit)
    return early_exit


class AnswersByExit:
    """A file with exits as a function from images to the answers of every output."""

    def __init__(self, path: Path):
        self._session = open_session(path)
        self._names = [*self._session.thresholds, MAIN]

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        images = np.asarray(images, "float32")
        return {name: self.at(name, images)[MAIN] for name in self._names}

    def at(
        self, name: str, images: np.ndarray, threshold: float = -np.inf
    ) -> dict[str, np.ndarray]:
        """The answers if only the exit `name` has a threshold that can be reached."""
        thresholds = [threshold if n == name else np.inf for n in self._names[:-1]]
        given = np.array(thresholds, "float32")
        return self._session.run({IMAGES: images, THRESHOLDS: given})


def _recalibrated(
    early_exit: EarlyExit, held_out: Dataset, answer: Answer
) -> EarlyExit:
    """The exits with thresholds for other answers, for the goal they were chosen by.

    An exit that is no longer used keeps its index in the file.
    """
    names = [segment.name for segment in early_exit.segments]
    if names == [MAIN]:
        return early_exit
    found = calibrate(
        collect_answers(early_exit.model, names, held_out, answer),
        early_exit.confidence,
        answer_cost(early_exit.model, names[:-1]),
        early_exit.calibration.goal if early_exit.calibration else Goal(),
    )
    chosen = EarlyExit(
        early_exit.model,
        dict.fromkeys(early_exit.thresholds, NEVER) | found.chosen.thresholds,
        confidence=early_exit.confidence,
        temperatures=found.temperatures,
    )
    chosen.calibration = found
    return chosen


def _feeds(
    early_exit: EarlyExit, models: Sequence[keras.Model], calibration: Any
) -> list[list[dict[str, np.ndarray]]]:
    """The inputs of each segment by name, for every batch of pictures."""
    names = tensor_names(early_exit)
    known: list[dict[str, Any]] = [
        {IMAGES: np.asarray(batch, "float32")} for batch in calibration
    ]
    feeds = []
    for segment, model in zip(early_exit.segments, models, strict=True):
        inputs = [names[key] for key in segment.input_ids]
        feeds.append([{name: tensors[name] for name in inputs} for tensors in known])
        for tensors, feed in zip(known, feeds[-1], strict=True):
            tensors.update(model.predict_on_batch([*feed.values()]))
    return feeds


def _compare(early_exit: EarlyExit, path: Path, exact: bool) -> None:
    """Raises `AnswersDiffer` if a file does not answer as the model does.

    Each exit in turn has to answer all pictures, and, with a threshold above every
    confidence, none.
    """
    shape = early_exit.model.inputs[0].shape[1:]
    images = np.random.default_rng(0).uniform(0, 255, (3, *shape)).astype("float32")
    expected = early_exit.model.predict_on_batch(images)
    file = AnswersByExit(path)
    for index, segment in enumerate(early_exit.segments):
        name = segment.name
        answers = early_exit.probabilities_of(np.asarray(expected[name]))
        found = file.at(name, images)
        check_alike(found[MAIN], answers, f"{name!r} in {path.name}", exact)
        leaves = [found[EXIT] == index]
        if exact and name != MAIN:
            confidences = early_exit.confidences(name, answers)
            low, high = confidences.min() - TOLERANCE, confidences.max() + TOLERANCE
            leaves.append(file.at(name, images, low)[EXIT] == index)
            leaves.append(file.at(name, images, high)[EXIT] != index)
        if not np.all(leaves):
            raise AnswersDiffer(
                f"{path.name} compares other confidences with the threshold of "
                f"{name!r} than the model. Nothing was exported."
            )
