"""Fits the settings of `train` that were not typed to the pictures and to the time."""

import argparse
import dataclasses
import time
from typing import Any

import numpy as np

import keras_inception as ki
from keras_inception import training
from keras_inception.data import Source
from keras_inception.text import duration
from keras_inception.training.plan import PRETRAINED_FROM
from keras_inception_cli.head_names import NETWORK
from keras_inception_cli.train_config import TrainConfig

UNEVEN = 5  # times the pictures of the smallest class
FEW = 50  # pictures of a class; docs/fine-tuning.md has measurements with 20


def fit_to_pictures(
    options: argparse.Namespace, config: TrainConfig, source: Source
) -> TrainConfig:
    """Chooses recipe, weights and length, unless a recipe was named, and says so."""
    given = TrainConfig.given(options)
    counts: np.ndarray = np.ones(1)
    if source.listing:  # elsewhere all pictures would have to be read
        counts = np.bincount(source.train.labels, minlength=len(source.class_names))
    if counts.max() > UNEVEN * counts.min() and not config.class_weights:
        print(
            f"the largest class has {counts.max()} training pictures, the smallest "
            f"{counts.min()}: --class-weights balanced gives them the same weight"
        )
    if "recipe" in given:
        return config
    free = not any(name in given for name in (*NETWORK, "weights", "network"))
    trained = given.get("weights") or (given.get("network") or "").endswith(".keras")
    plan = training.make_plan(
        len(source.train),
        source.picture_size,
        batch_size=given.get("batch_size"),
        epochs=given.get("epochs"),
        weights=bool(trained),
        frozen="freeze" in given,
        can_fetch_weights=_can_fetch_imagenet if free else lambda: False,
    )
    chosen = {name: v for name, v in plan.settings.items() if name not in given}
    words = (f"--{name.replace('_', '-')} {value}" for name, value in chosen.items())
    print(f"{plan.reason}\nchosen: {' '.join(words)}")
    if not (trained or given.get("network") or "weights" in plan.settings):
        _advise(source, given)
    return TrainConfig.resolve(options, plan.settings)


def _advise(source: Source, given: dict[str, Any]) -> None:
    """Says what makes a GoogLeNet from random weights better, or quicker to train."""
    if source.picture_size < PRETRAINED_FROM:
        return  # trained weights help little, and an epoch is short
    if len(source.train) < FEW * len(source.class_names):
        print(
            f"fewer than {FEW} pictures of a class teach a network with random weights "
            "little: --weights FILE starts from a trained one"
        )
    if "width" not in given:
        print("for a first look, --width 0.25 is several times as fast")


def fit_to_time(
    config: TrainConfig,
    model: ki.DeeplySupervised,
    train: Any,
    validation: Any,
    seconds: float,
) -> TrainConfig:
    """Lowers the epochs to those that fit into the time left, and says so.

    `model` is compiled; it keeps its weights, and has to be compiled again.
    """
    started = time.perf_counter()
    pace = training.measure_pace(model, train, len(train), len(validation))
    epoch = len(train) * pace.step + pace.rest
    left = seconds - (time.perf_counter() - started)
    epochs = max(1, min(config.epochs, int(left / epoch)))
    print(
        f"an epoch takes about {duration(epoch)}: {epochs} of {config.epochs} epochs "
        f"in {duration(left)}"
    )
    return dataclasses.replace(config, epochs=epochs)


def _can_fetch_imagenet() -> bool:
    """Whether ImageNet's weights are there or can be downloaded, which it tries."""
    try:
        ki.weights.imagenet_weights()
    except OSError as error:
        print(error)
        return False
    return True
