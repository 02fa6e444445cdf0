"""Exits for a finished classifier: heads are attached, and trained while it is frozen.

The tensors that the heads read from the frozen trunk are computed once. The heads then
train on those, in a model of their own, which holds none of the trunk's layers.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import keras
import numpy as np

from keras_inception.early_exit import checks
from keras_inception.early_exit.confidence import softmax
from keras_inception.early_exit.placement import Pictures, place_exits
from keras_inception.outputs import MAIN, output_activation
from keras_inception.supervision import (
    DeeplySupervised,
    attach_auxiliary,
    compute_features,
    detach_auxiliary,
)
from keras_inception.supervision.heads import AuxiliaryHead

BATCH_SIZE = 128
_EPOCHS, _LEAST_STEPS, _MOST_EPOCHS = 12, 1000, 60
_LEARNING_RATE = 2e-3


class _Calibrates(Protocol):
    @classmethod
    def calibrate(
        cls: type["_Exits"],
        model: keras.Model,
        dataset: Iterable,
        max_accuracy_drop: float,
        *,
        confidence_level: float | None,
    ) -> "_Exits": ...


_Exits = TypeVar("_Exits", bound=_Calibrates)


def fit(
    cls: type[_Exits],
    model: keras.Model,
    train: Iterable,
    held_out: Iterable,
    *,
    max_exits: int = 3,
    max_accuracy_drop: float = 0.005,
    confidence_level: float | None = None,
    labels: bool = True,
) -> _Exits:
    """Gives a finished classifier exits: places, trains and calibrates heads.

    Linear probes on every endpoint, judged on an eighth of the training pictures,
    choose where exits save most. Small heads there learn from the others; what the
    frozen network computes for them is kept in temporary files. The network itself
    does not change, its batch statistics included, and it shares its layers with
    the result. Heads that it already has are left out.

    Args:
        model: A trained functional classifier with one input.
        train: Pictures for the heads, without augmentation, such as those that the
            model learned from: batches of `(images, labels)`, or one such pair of
            arrays; labels are class indices or one-hot. It is read several times.
        held_out: Likewise, other pictures, to calibrate on. Neither the model nor
            the heads learn from them.
        max_exits: The largest number of exits, at least 1. Defaults to 3.
        max_accuracy_drop: As in `calibrate`. Defaults to 0.005.
        confidence_level: As in `calibrate`. Defaults to `None`.
        labels: Whether to learn and calibrate with labels. False: the heads learn
            main's own answers, and accuracy is agreement with main; labels are not
            read, and batches may be images alone. Defaults to True.

    Returns:
        A calibrated `EarlyExit`, whose `model` is a `DeeplySupervised`.

    Raises:
        ValueError: If the model is not such a classifier, a number is out of range,
            or a dataset is empty, does not fit the model or is an iterator.

    Example:
    >>> inputs = keras.Input((8, 8, 3))
    >>> x = keras.layers.Conv2D(4, 3, activation="relu", name="one")(inputs)
    >>> x = keras.layers.Conv2D(4, 3, activation="relu", name="two")(x)
    >>> x = keras.layers.GlobalAveragePooling2D()(x)
    >>> model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    >>> images, labels = np.random.rand(40, 8, 8, 3), np.arange(40) % 3
    >>> data = (images[:30], labels[:30]), (images[30:], labels[30:])
    >>> early = EarlyExit.fit(model, *data, max_exits=1)
    >>> len(early.model.heads)
    1
    """
    if max_exits < 1:
        raise ValueError(f"max_exits must be at least 1. Received: {max_exits}")
    checks.check_goal(max_accuracy_drop, None, confidence_level)  # before the training
    heads = place_exits(model, train, labels, max_exits, max_accuracy_drop)
    if isinstance(getattr(model, "output", None), dict):
        model = detach_auxiliary(model)
    attached = attach_auxiliary(model, heads)
    train_heads(attached, heads, Pictures(attached, train, labels, "training"), labels)
    pictures = Pictures(attached, held_out, labels)
    return cls.calibrate(
        attached, pictures, max_accuracy_drop, confidence_level=confidence_level
    )


def train_heads(
    model: DeeplySupervised,
    heads: Sequence[AuxiliaryHead],
    pictures: Iterable,
    labels: bool,
) -> None:
    """Trains heads on what the frozen model computes for them.

    Half of a head's target is the label, the other half main's own probabilities; with
    `labels=False` those alone.
    """
    inputs = [_input_of(model, head) for head in heads]
    main = model.output[MAIN]
    trunk = keras.Model(model.inputs, [*inputs, main])
    features = compute_features(trunk, pictures)
    *arrays, answers = features.arrays
    assert features.labels is not None
    logits = output_activation(main) == "linear"
    names = [head.name for head in heads]
    read_labels = features.labels if labels else None
    batches = _Batches(names, arrays, answers, read_labels, logits)
    learner = keras.Model(inputs, {name: model.output[name] for name in names})
    epochs = int(np.clip(-(-_LEAST_STEPS // len(batches)), _EPOCHS, _MOST_EPOCHS))
    schedule = keras.optimizers.schedules.CosineDecay(
        _LEARNING_RATE, epochs * len(batches)
    )
    learner.compile(
        keras.optimizers.Adam(schedule),
        {
            name: keras.losses.CategoricalCrossentropy(from_logits=logits)
            for name in names
        },
    )
    learner.fit(batches, epochs=epochs, verbose=0)


def _input_of(model: keras.Model, head: AuxiliaryHead) -> keras.KerasTensor:
    """The input of a head's first trainable layer: the pool's output, if any."""
    names = {layer.name for layer in model.layers}
    convolution = f"{head.name}_conv"
    first = convolution if convolution in names else f"{head.name}_fc"
    return model.get_layer(first).input


class _Batches(keras.utils.PyDataset):
    """Batches of features and targets, in a new order in each epoch."""

    def __init__(
        self,
        names: Sequence[str],
        arrays: Sequence[np.ndarray],
        answers: np.ndarray,
        labels: np.ndarray | None,
        logits: bool,
    ):
        super().__init__()
        self._names, self._arrays = names, arrays
        self._answers, self._labels = answers, labels
        self._logits, self._epoch = logits, 0
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._answers) // BATCH_SIZE)

    def __getitem__(self, index: int) -> tuple[tuple, dict]:
        rows = self._order[index * BATCH_SIZE :][:BATCH_SIZE]
        targets = np.asarray(self._answers[rows])
        if self._logits:
            targets = softmax(targets)
        if self._labels is not None:
            one_hot = np.eye(targets.shape[-1], dtype=targets.dtype)
            targets = (targets + one_hot[self._labels[rows]]) / 2
        features = tuple(np.asarray(array[rows]) for array in self._arrays)
        return features, dict.fromkeys(self._names, targets)

    def on_epoch_end(self) -> None:
        random = np.random.default_rng(self._epoch)
        self._order = random.permutation(len(self._answers))
        self._epoch += 1
