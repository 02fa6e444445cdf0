"""Which endpoints of a finished classifier should get exits."""

import functools
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
from keras import ops

from keras_inception.backend import compiled
from keras_inception.batches import check_images, labeled_batches
from keras_inception.early_exit import search
from keras_inception.early_exit.calibration import answer_cost
from keras_inception.endpoints.costs import milliseconds_to
from keras_inception.endpoints.features import PooledFeatures
from keras_inception.endpoints.ranking import (
    JudgedProbes,
    find_endpoints,
    fit_probes,
    judge_probes,
)
from keras_inception.outputs import MAIN
from keras_inception.supervision import AuxiliaryHead, attach_auxiliary

LIKELY = 8  # endpoints whose subsets are all tried
_BATCH_SIZE = 128
_CHOOSING = 8  # one picture in eight helps to choose the endpoints
_HEAD_SHARE = 0.03  # of main's multiply-adds that a head may cost
# In millionths of main's cost: the work between segments, which the costs leave out. A
# further exit must save more than this.
_EXIT_COST = 10_000
_LEAST_WIDTH = 1 / 16  # of a head: 16 units


class Pictures:
    """A dataset, or a part of it, as batches `(images, class indices)`.

    The part to which a picture belongs depends on its pixels alone, so it is the same
    in every pass, in whatever order the dataset comes.

    Args:
        model: The classifier.
        dataset: As in `EarlyExit.fit`.
        labels: Whether its labels are read; if not, main's answers take their place.
        part: `"choosing"`, `"training"` or, by default, `"all"`.
    """

    def __init__(
        self, model: keras.Model, dataset: Iterable, labels: bool, part: str = "all"
    ):
        if part != "all" and isinstance(dataset, Iterator):
            raise ValueError(
                "The training pictures are read several times, but an iterator gives "
                "them once. Pass the dataset itself, a list of batches or a pair of "
                "arrays."
            )
        self._model, self._dataset = model, dataset
        self._labels, self._part = labels, part

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._part == "all":
            yield from self._batches()
            return
        # Joined to batches of one size, since JAX compiles each size.
        images, labels, count = np.empty(0), np.empty(0, int), 0
        for found, their_labels in self._batches():
            chooses = [
                zlib.crc32(picture.tobytes()) % _CHOOSING == 0 for picture in found
            ]
            kept = np.array(chooses, bool) == (self._part == "choosing")
            found, their_labels = found[kept], their_labels[kept]
            images = np.concatenate([images, found]) if len(labels) else found
            labels = np.concatenate([labels, their_labels])
            count += len(found)
            while len(labels) >= _BATCH_SIZE:
                yield images[:_BATCH_SIZE], labels[:_BATCH_SIZE]
                images, labels = images[_BATCH_SIZE:], labels[_BATCH_SIZE:]
        if not count:
            raise ValueError(
                "The training pictures are too few: an eighth of them chooses the "
                "endpoints, the others train heads, and there are none for "
                f"{self._part}."
            )
        if len(labels):
            yield images, labels

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._labels:
            yield from labeled_batches(self._model, self._dataset)
            return
        model = self._model
        forward = compiled(keras.Model([model.inputs[0]], [model.output[MAIN]]))
        for images in _unlabeled(self._dataset):
            images = check_images(model, images)
            batch = ops.convert_to_tensor(images, model.inputs[0].dtype)
            yield images, ops.convert_to_numpy(forward([batch])[0]).argmax(-1)


def _unlabeled(dataset: Iterable, batch_size: int = 256) -> Iterator:
    """Batches of images alone; labels, if there are any, are ignored."""
    if isinstance(dataset, tuple) and len(dataset) == 2:
        dataset = dataset[0]
    if isinstance(dataset, np.ndarray):
        for start in range(0, len(dataset), batch_size):
            yield dataset[start : start + batch_size]
        return
    for batch in dataset:
        yield batch[0] if isinstance(batch, tuple | list) else batch


def place_exits(
    model: keras.Model,
    train: Iterable,
    labels: bool,
    max_exits: int,
    max_accuracy_drop: float,
) -> list[AuxiliaryHead]:
    """Chooses the endpoints whose exits would save most, and heads for them.

    Linear probes on most of the training pictures stand in for heads; the rest of them
    choose. All subsets of the likely endpoints are tried. Half of the cost is
    multiply-adds, which do not see how long operations take to start, and half measured
    time, which other load on the machine disturbs.

    Returns:
        At most `max_exits` heads, in network order.
    """
    model, main, endpoints = find_endpoints(model)
    features = PooledFeatures(model, main, endpoints)
    probes = fit_probes(model, features, Pictures(model, train, labels, "training"))
    choosing = Pictures(model, train, labels, "choosing")
    judged = judge_probes(model, features, probes, choosing)
    savings = [
        judged.share_leaving(index, max_accuracy_drop) * (1 - endpoint.share)
        for index, endpoint in enumerate(endpoints)
    ]
    likely = np.sort(np.argsort(savings)[::-1][:LIKELY])
    heads = [_head_at(model, endpoints[index].name) for index in likely]
    attached = attach_auxiliary(model, heads)
    tensors = [endpoints[index].tensor for index in likely]
    cost = _Cost(attached, [head.name for head in heads], tensors, judged.images)
    best: tuple[int, ...] = ()
    cheapest = np.inf
    for count in range(1, min(max_exits, len(heads)) + 1):
        for subset in itertools.combinations(range(len(heads)), count):
            found = _cheapest(judged, likely, subset, cost, max_accuracy_drop)
            found += count * _EXIT_COST
            if found < cheapest:
                best, cheapest = subset, found
    return [heads[index] for index in best]


def _head_at(model: keras.Model, endpoint: str) -> AuxiliaryHead:
    """A head that costs about 3 % of main's multiply-adds, or the full one if less."""
    head = AuxiliaryHead(endpoint, filters=128, units=256, dropout=0.3, batch_norm=True)
    cost = answer_cost(attach_auxiliary(model, [head]), [head.name])
    main = cost([False], 1)
    # The cost grows with the square of the width.
    width = math.sqrt(_HEAD_SHARE * main / (cost([True], 1) - main))
    return head.widened(min(1.0, max(width, _LEAST_WIDTH)))


class _Cost:
    """The cost of an answer, where main's is a million.

    Args:
        attached: The model with heads.
        exits: Their outputs, in network order.
        tensors: The endpoints that they read.
        images: A batch to time.
    """

    def __init__(
        self,
        attached: keras.Model,
        exits: Sequence[str],
        tensors: Sequence[keras.KerasTensor],
        images: np.ndarray,
    ):
        count = len(exits)
        outputs = [attached.output[name] for name in [*exits, MAIN]]
        times = milliseconds_to(attached, [*outputs, *tensors], images)
        main, reached = times[count], times[count + 1 :]
        self._reach = [*reached, main]
        self._head = np.maximum(np.subtract(times[:count], reached), 0)
        self._adds = functools.partial(answer_cost, attached)
        self._exits = list(exits)

    def of(self, subset: Sequence[int]) -> search.Cost:
        """The cost for a subset of the exits, as `evaluate_grid` takes it."""
        exits = [self._exits[index] for index in subset]
        adds, places = self._adds(exits), [*subset, len(self._exits)]
        main_adds = adds([False] * len(exits), len(exits))

        def cost(used: list[bool], answer: int) -> float:
            before = [*itertools.compress(subset[: answer + 1], used)]
            time = self._reach[places[answer]] + self._head[before].sum()
            shares = time / self._reach[-1], adds(used, answer) / main_adds
            return round(1e6 * sum(shares) / 2)  # whole, so that equal sums stay equal

        return cost


def _cheapest(
    judged: JudgedProbes,
    likely: np.ndarray,
    subset: Sequence[int],
    cost: _Cost,
    max_accuracy_drop: float,
) -> float:
    """The smallest mean cost of the exits of a subset, within the allowed drop."""
    rows = likely[list(subset)]
    correct = [*judged.correct[rows], judged.main_correct]
    grid = search.evaluate_grid(list(judged.margins[rows]), correct, cost.of(subset))
    least = judged.main_correct.mean() - max_accuracy_drop - 1e-9
    return float(grid.cost[grid.accuracy >= least].min())
