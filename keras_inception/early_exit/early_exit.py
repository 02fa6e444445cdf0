"""`EarlyExit`: the heads of a trained model answer easy pictures early."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled, compiles_each_batch_size
from keras_inception.batches import Dataset, check_images
from keras_inception.early_exit import answers, calibration, checks, fitting
from keras_inception.early_exit.confidence import MEASURES, softmax, tempered
from keras_inception.early_exit.segments import (
    BatchQueue,
    in_network_order,
    padded,
    split_at_exits,
)
from keras_inception.files import read_json, write_json
from keras_inception.outputs import MAIN
from keras_inception.text import check_list


class Settings(TypedDict):
    """The fields of a file of exits, besides those of the model and the calibration."""

    confidence: str
    thresholds: dict[str, float]
    temperatures: dict[str, float]


SETTINGS = tuple(Settings.__annotations__)


class _File(Settings):
    dtype: NotRequired[str]
    weights: NotRequired[str]
    calibration: NotRequired[calibration.Calibration | None]


class EarlyExit:
    """A model that stops at the first head that is confident enough.

    It runs segments of the model's own graph, with the same weights. A picture that
    leaves skips the later segments. Pictures that do not leave get exactly the model's
    `main` answers.

    Args:
        model: A trained model with one input, a `main` output and auxiliary heads, such
            as `GoogLeNet` and `attach_auxiliary` return.
        thresholds: Head's name to the confidence from which its answer is accepted,
            `{"aux_4a": 0.9, "aux_4d": 0.8}`; a threshold above 1 is never reached.
            Heads that are not named are not computed.
        confidence: `"max_probability"` (default), the probability of the most likely
            class, or `"entropy"`, 1 minus the entropy divided by its largest value.
        temperatures: Head's name to the number that its logits are divided by before
            its confidence is computed; the answers do not change. Defaults to 1.

    Attributes:
        thresholds: As given, in network order.
        segments: The parts of the graph: one for each exit, then one for `main`.
        calibration: The result of `calibrate`, or `None`.

    Raises:
        ValueError: If a name is not a head of the model, a head predicts superclasses,
            or a number is out of range.

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
        checks.check_settings(model, thresholds, temperatures, confidence)
        order = in_network_order(model, list(thresholds))
        self.model = model
        self.thresholds = {name: float(thresholds[name]) for name in order}
        self.temperatures = {name: float(t) for name, t in temperatures.items()}
        self.confidence = confidence
        self.calibration: calibration.Calibration | None = None
        self.segments = split_at_exits(model, order)
        self._forwards = [compiled(segment.model) for segment in self.segments]
        self.gives_logits = answers.puts_out_logits(model)

    @classmethod
    def calibrate(
        cls,
        model: keras.Model,
        dataset: Dataset,
        max_accuracy_drop: float | None = None,
        *,
        max_cost: float | None = None,
        confidence_level: float | None = None,
        exits: Sequence[str] | None = None,
        confidence: str = "max_probability",
    ) -> "EarlyExit":
        """Finds the thresholds with the least computation for an allowed drop.

        With `max_cost` it finds the most accurate ones for an allowed computation
        instead. Every combination of thresholds on a grid is evaluated; multiply-adds
        count, those of the heads included. Each exit gets a temperature if that makes
        the choice better. Exits that save nothing are left out.

        Args:
            model: A trained model with heads.
            dataset: Pictures that the model was not trained on: batches of `(images,
                labels)`, or one such pair of arrays; labels are indices or one-hot.
            max_accuracy_drop: How much less accurate than main the exits may be on
                other pictures of this kind, from 0 to 1. Defaults to 0.005, half a
                percentage point.
            max_cost: Instead of a drop, the share of main's multiply-adds that an
                answer may cost on average, above 0, up to 1. Defaults to none.
            confidence_level: The probability with which the drop on other pictures of
                this kind is below `max_accuracy_drop`, above 0.5 and below 1. It holds
                for any model and any number of pictures: half of them choose, the other
                half tests. With `max_cost`, the probability of the bound that
                `calibration.chosen.largest_drop` then has. Defaults to `None`: the drop
                is kept on average, by cross-validation between halves.
            exits: The heads to consider. Defaults to all without superclasses.
            confidence: As in `EarlyExit`.

        Returns:
            An `EarlyExit` whose `calibration` predicts its effect.

        Raises:
            ValueError: If there is no head to exit at, a named head predicts
                superclasses, a number is out of range, or the dataset is empty.
        """
        checks.check_goal(max_accuracy_drop, max_cost, confidence_level)
        check_list("exits", exits)
        if max_accuracy_drop is None and max_cost is None:
            max_accuracy_drop = 0.005
        tried = dict.fromkeys(
            checks.possible_exits(model) if exits is None else exits, 1.0
        )
        if not tried:
            raise ValueError("`exits` names no head to exit at.")
        checks.check_settings(model, tried, {}, confidence)
        names = [*in_network_order(model, list(tried)), MAIN]
        found = calibration.calibrate(
            answers.collect_answers(model, names, dataset),
            confidence,
            calibration.answer_cost(model, names[:-1]),
            calibration.Goal(max_accuracy_drop, max_cost, confidence_level),
        )
        thresholds, known = found.chosen.thresholds, found.temperatures
        early_exit = cls(
            model,
            thresholds,
            confidence=confidence,
            temperatures={name: known[name] for name in thresholds if known},
        )
        early_exit.calibration = found
        return early_exit

    fit: "classmethod[Any, ..., EarlyExit]" = classmethod(fitting.fit)

    def on(self, model: keras.Model) -> "EarlyExit":
        """The same exits of another model with these heads, such as a rewritten one."""
        return EarlyExit(model, **{name: getattr(self, name) for name in SETTINGS})

    def predict(
        self, images: np.ndarray, batch_size: int = 32
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answers each picture at the first exit that is confident enough.

        Args:
            images: A batch of the model's input.
            batch_size: How many pictures are computed together. Pictures that do not
                leave wait until they fill a batch again, except on JAX. Defaults to 32.

        Returns:
            `(probabilities, exits)`: float32 `(pictures, classes)`, and the names of
            the outputs that answered, `(pictures,)`.

        Raises:
            ValueError: If the images' shape is not the model's, or `batch_size` is
                below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1. Received: {batch_size}")
        images = check_images(self.model, images)
        (model_input,) = self.model.inputs
        classes = self.model.output[MAIN].shape[-1]
        probabilities = np.empty((len(images), classes), "float32")
        exits = np.empty(len(images), int)
        queues = [BatchQueue() for _ in self.segments]
        for start in range(0, len(images), batch_size):
            end = min(start + batch_size, len(images))
            batch = ops.convert_to_tensor(padded(images[start:end]), model_input.dtype)
            queues[0].add(np.arange(start, end), {id(model_input): batch})
            # Nothing follows the last batch; and JAX, which compiles each batch size,
            # pads the batches of later segments to a power of two instead.
            waits = end < len(images) and not compiles_each_batch_size()
            for index, queue in enumerate(queues):
                while len(queue) >= (batch_size if waits else 1):
                    rows, tensors = queue.take(batch_size)
                    answers, leaves, tensors = self._run(index, len(rows), tensors)
                    probabilities[rows[leaves]] = answers[leaves]
                    exits[rows[leaves]] = index
                    if not leaves.all():
                        queues[index + 1].add(rows[~leaves], tensors)
        return probabilities, np.array([s.name for s in self.segments])[exits]

    def _run(
        self, index: int, count: int, tensors: dict[int, Any]
    ) -> tuple[np.ndarray, np.ndarray, dict[int, Any]]:
        """A segment's answers, which pictures leave, and the tensors of the others."""
        segment = self.segments[index]
        answer, *passed_on = self._forwards[index](segment.inputs_from(tensors))
        answers = self.probabilities_of(ops.convert_to_numpy(answer)[:count])
        if segment.name == MAIN:
            return answers, np.ones(count, bool), {}
        leaves = self.is_confident(segment.name, answers)
        if leaves.all():
            return answers, leaves, {}
        tensors = segment.tensors_after(tensors, passed_on)
        if leaves.any():
            stays = padded(np.flatnonzero(~leaves))
            tensors = {i: ops.take(t, stays, axis=0) for i, t in tensors.items()}
        return answers, leaves, tensors

    def probabilities_of(self, answer: Any) -> Any:
        """An output's probabilities, from its answers in an array or a tensor."""
        return softmax(answer) if self.gives_logits else answer

    def is_confident(self, name: str, probabilities: Any) -> Any:
        """Whether each answer of an exit is accepted, `(pictures,)`; NaN never is."""
        return self.confidences(name, probabilities) >= self.thresholds[name]

    def confidences(self, name: str, probabilities: Any) -> Any:
        """The numbers that an exit's threshold is compared with, `(pictures,)`."""
        probabilities = tempered(probabilities, self.temperatures.get(name, 1.0))
        return MEASURES[self.confidence](probabilities)

    def save(self, path: str | os.PathLike) -> None:
        """Writes thresholds, temperatures and calibration to a JSON file.

        The file says by the dtype and a checksum of the weights which model it is for.
        """
        content: dict[str, Any] = {name: getattr(self, name) for name in SETTINGS}
        # JSON has no infinity; no confidence reaches 2.
        content["thresholds"] = {n: min(x, 2.0) for n, x in self.thresholds.items()}
        found = self.calibration and self.calibration.as_dict()
        content["dtype"] = checks.dtype_of(self.model)
        content["weights"] = checks.digest_of(self.model)
        content["calibration"] = found
        write_json(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike, model: keras.Model) -> "EarlyExit":
        """Loads exits of a model that `save` or `keras-inception calibrate` wrote.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is not such a JSON file, does not fit the model, or was
                calibrated in another dtype or for other weights.
        """
        content = _read(path)
        # A file without a dtype is from an earlier version, which knew only float32.
        checks.check_dtype(model, content.get("dtype", "float32"), path)
        early_exit = cls(model, **{name: content[name] for name in SETTINGS})
        if "weights" in content:  # not in files of earlier versions
            checks.check_weights(model, content["weights"], path)
        found = content.get("calibration")
        early_exit.calibration = found and calibration.Calibration.from_dict(found)
        return early_exit


def read_exits(
    path: str | os.PathLike,
) -> tuple[dict[str, float], calibration.Calibration | None]:
    """Reads the thresholds and the calibration of a file without its model.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a file that `EarlyExit.save` or `calibrate` wrote.
    """
    content = _read(path)
    found = content.get("calibration")
    return content["thresholds"], found and calibration.Calibration.from_dict(found)


def _read(path: str | os.PathLike) -> dict[str, Any]:
    fault = "holds no early exits, as EarlyExit.save and calibrate write them"
    return read_json(Path(path), _File, fault)
