"""Easy pictures answered early: the heads of a trained model used as exits."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled, compiles_each_batch_size
from keras_inception.early_exit import calibration
from keras_inception.early_exit.batch_queue import BatchQueue
from keras_inception.early_exit.checks import (
    batches,
    check_exits,
    check_numbers,
    is_coarse,
    puts_out_logits,
)
from keras_inception.early_exit.confidence import MEASURES, softmax, tempered
from keras_inception.early_exit.segments import in_network_order, split
from keras_inception.files import write_json
from keras_inception.outputs import MAIN


class EarlyExit:
    """A model that stops at the first head that is sure enough.

    It runs segments of the very same graph, with the same weights. A picture that
    leaves is not computed further; the others of its batch go on without it.
    Where nothing leaves the answers are the model's own.

    Args:
        model: A trained model with a `main` output and auxiliary heads, as `GoogLeNet`
            and `attach_auxiliary` make it. It takes one input.
        thresholds: Head's name to the confidence from which on its answer is taken,
            `{"aux_4a": 0.9, "aux_4d": 0.8}`; above 1: never. Heads that aren't named
            are not computed.
        confidence: `"max_probability"` (default), the probability of the likeliest
            class, or `"entropy"`, 1 less the entropy over that of a uniform answer.
        temperatures: Head's name to what its logits are divided by before its
            confidence is taken. Answers don't change. Defaults to 1 for each.

    Attributes:
        thresholds: As given, in network order.
        calibration: What `calibrate` found, else `None`.

    Raises:
        ValueError: If a name is no head of the model, the head answers in coarser
            classes, or a number is out of its range.

    Example:
    >>> model = GoogLeNet((32, 32, 3), 3, architecture=GOOGLENET_SMALL, width=0.1)
    >>> early = EarlyExit(model, {"aux_4a": 0.9, "aux_4d": 0.8})
    >>> probabilities, exits = early.predict(np.zeros((4, 32, 32, 3)))
    >>> probabilities.shape, exits.shape
    ((4, 3), (4,))
    """

    def __init__(
        self,
        model: keras.Model,
        thresholds: Mapping[str, float],
        *,
        confidence: str = "max_probability",
        temperatures: Mapping[str, float] | None = None,
    ):
        temperatures = dict(temperatures or {})
        check_exits(model, thresholds)
        check_numbers("threshold", thresholds, least=0)
        check_numbers("temperature", temperatures, above=0)
        surplus = [name for name in temperatures if name not in thresholds]
        if surplus:
            raise ValueError(
                f"temperatures names what has no threshold: {', '.join(surplus)}"
            )
        if confidence not in MEASURES:
            raise ValueError(
                f"confidence is one of {', '.join(MEASURES)}. Received: {confidence!r}"
            )
        order = in_network_order(model, list(thresholds))
        self.model = model
        self.thresholds = {name: float(thresholds[name]) for name in order}
        self.temperatures = {name: float(t) for name, t in temperatures.items()}
        self.confidence = confidence
        self.calibration: calibration.Calibration | None = None
        self.segments = split(model, order)
        self._forwards = [compiled(segment.model) for segment in self.segments]
        self._logits = puts_out_logits(model)
        # What later segments take in.
        self._needed = [
            {tensor for later in self.segments[index + 1 :] for tensor in later.takes}
            for index in range(len(self.segments))
        ]

    @classmethod
    def calibrate(
        cls,
        model: keras.Model,
        dataset,
        max_accuracy_drop: float = 0.005,
        *,
        exits: list[str] | None = None,
        confidence: str = "max_probability",
    ) -> "EarlyExit":
        """Finds the thresholds with the least computation for an allowed drop.

        Every combination of thresholds on a grid is tried on the data; counted are the
        multiply-adds, heads included. Confidences are taken with a temperature for each
        exit where that makes the choice cheaper. An exit that doesn't pay is left out.

        Args:
            model: A trained model with heads.
            dataset: Held-out data: batches of `(images, labels)`, or one such pair of
                arrays. Labels are class indices, or one-hot.
            max_accuracy_drop: What the accuracy may lose against main's, as a share:
                0.005 (default) for half a point.
            exits: The heads to consider. Defaults to all that answer in the classes
                themselves.
            confidence: As in `EarlyExit`.

        Returns:
            An `EarlyExit` whose `calibration` says what it will do: accuracy and
            multiply-adds beside main's, the share of pictures that leave at each exit,
            and whether exits raise the accuracy.

        Raises:
            ValueError: If there is no head to exit at, a named one answers in coarser
                classes, or the data is empty.
        """
        if not 0 <= max_accuracy_drop < 1:
            raise ValueError(
                "max_accuracy_drop is a share of the answers, 0.005 for half a point. "
                f"Received: {max_accuracy_drop}"
            )
        if exits is None:
            exits = [n for n in model.output if n != MAIN and not is_coarse(model, n)]
            if not exits:
                raise ValueError(
                    "The model has no head to exit at: no head at all, or heads with "
                    "superclasses, which answer in coarser classes than main."
                )
        early = cls(model, dict.fromkeys(exits, 1.0), confidence=confidence)
        probabilities, labels = early._all_answers(dataset)
        found = calibration.calibrate(
            model,
            list(early.thresholds),
            probabilities,
            labels,
            max_accuracy_drop=max_accuracy_drop,
            confidence=confidence,
        )
        calibrated = cls(
            model,
            found.chosen.thresholds,
            confidence=confidence,
            temperatures=found.temperatures,
        )
        calibrated.calibration = found
        return calibrated

    def predict(self, images, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Answers pictures, each at the first exit that is sure enough of it.

        Args:
            images: A batch of what the model takes.
            batch_size: How many are computed together. Pictures that go on wait for
                those of later batches to fill one again. Defaults to 32.

        Returns:
            `(probabilities, exits)`: float32 `(pictures, classes)`, and the name of the
            output that answered each picture, `(pictures,)`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1. Received: {batch_size}")
        images = self._checked(images)
        (own_input,) = self.model.inputs
        classes = self.model.output[MAIN].shape[-1]
        probabilities = np.empty((len(images), classes), "float32")
        exits = np.empty(len(images), int)
        waiting = [BatchQueue() for _ in self.segments]
        for start in range(0, len(images), batch_size):
            batch = _padded(images[start : start + batch_size])
            rows = np.arange(start, min(start + batch_size, len(images)))
            tensor = ops.convert_to_tensor(batch, own_input.dtype)
            waiting[0].add(rows, {id(own_input): tensor})
            last = start + batch_size >= len(images)
            # A picture waits for others of later batches, so that they go on together;
            # not where every number of pictures would have to be compiled for.
            least = 1 if last or compiles_each_batch_size() else batch_size
            for index, queue in enumerate(waiting):
                while len(queue) >= least:
                    rows, kept = queue.take(batch_size)
                    answers, leaves, kept = self._run(index, rows, kept)
                    probabilities[rows[leaves]] = answers[leaves]
                    exits[rows[leaves]] = index
                    if not leaves.all():
                        waiting[index + 1].add(rows[~leaves], kept)
        return probabilities, np.array([s.name for s in self.segments])[exits]

    def save(self, path: str | os.PathLike) -> None:
        """Writes thresholds, temperatures and calibration as JSON, whole or not."""
        content = {
            "confidence": self.confidence,
            "thresholds": self.thresholds,
            "temperatures": self.temperatures,
            "calibration": self.calibration and self.calibration.as_dict(),
        }
        write_json(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike, model: keras.Model) -> "EarlyExit":
        """The exits that `save` or `keras-inception calibrate` wrote, on their model.

        Raises:
            ValueError: If the file is no such JSON, or doesn't fit the model.
        """
        try:
            content = json.loads(Path(path).read_text())
            arguments = {
                name: content[name]
                for name in ("thresholds", "confidence", "temperatures")
            }
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            raise ValueError(
                f"{path} holds no exits, as EarlyExit.save and keras-inception "
                "calibrate write them."
            ) from None
        return cls(model, **arguments)

    def _run(self, index, rows, kept) -> tuple[np.ndarray, np.ndarray, dict]:
        """One segment's answers, whose answers are taken, and what the others keep."""
        segment = self.segments[index]
        answer, *given = self._forwards[index]([kept[t] for t in segment.takes])
        answers = self._as_probabilities(answer)[: len(rows)]
        leaves = self.leaves(segment.name, answers)
        if leaves.all():
            return answers, leaves, {}
        kept = kept | dict(zip(segment.gives, given, strict=True))
        kept = {t: kept[t] for t in kept.keys() & self._needed[index]}
        if leaves.any():
            stays = _padded(np.flatnonzero(~leaves))
            kept = {t: ops.take(value, stays, axis=0) for t, value in kept.items()}
        return answers, leaves, kept

    def leaves(self, name: str, probabilities: np.ndarray) -> np.ndarray:
        """Which of an output's answers are taken, `(pictures,)`; all of main's."""
        if name == MAIN:
            return np.ones(len(probabilities), bool)
        tempering = self.temperatures.get(name, 1.0)
        sure = MEASURES[self.confidence](tempered(probabilities, tempering))
        return sure >= self.thresholds[name]

    def _as_probabilities(self, answer) -> np.ndarray:
        answer = ops.convert_to_numpy(answer)
        return softmax(answer) if self._logits else answer

    def _checked(self, images):
        images = np.asarray(images)
        expected = self.model.inputs[0].shape
        fits = len(images.shape) == len(expected) and all(
            want is None or want == got
            for want, got in zip(expected[1:], images.shape[1:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"The model takes a batch of shape {tuple(expected)}. Received: "
                f"{images.shape}"
            )
        return images

    def _all_answers(self, dataset) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Every output's probabilities for data, and the labels."""
        names = [segment.name for segment in self.segments]
        outputs = [self.model.output[name] for name in names]
        forward = compiled(keras.Model([self.model.inputs[0]], outputs))
        dtype = self.model.inputs[0].dtype
        answers, labels = [], []
        for images, label in batches(dataset):
            batch = ops.convert_to_tensor(self._checked(images), dtype)
            answers.append([self._as_probabilities(x) for x in forward([batch])])
            label = np.asarray(label)
            one_hot = label.ndim == 2 and label.shape[1] > 1
            labels.append(label.argmax(-1) if one_hot else label.reshape(-1))
        if not labels or not len(labels[0]):
            raise ValueError("There are no pictures to calibrate on.")
        together = map(np.concatenate, zip(*answers, strict=True))
        return dict(zip(names, together, strict=True)), np.concatenate(labels)


def _padded(values: np.ndarray) -> np.ndarray:
    """Values, on a backend that compiles for each size filled up to a power of two."""
    if not compiles_each_batch_size():
        return values
    surplus = 2 ** int(np.ceil(np.log2(len(values)))) - len(values)
    return np.concatenate([values, np.repeat(values[-1:], surplus, axis=0)])
