"""The batch norm regime of `paired_studies` at full width, on all of CIFAR-10.

All arms are one network with the paper's two heads and one compiled training step. A
head that an arm does not have weighs 0: then nothing of its loss reaches the trunk.
"""

import argparse
import dataclasses
import itertools
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from benchmarks.gpu import about
from benchmarks.gpu_cifar10 import Pictures, enlarge
from benchmarks.paired_pictures import IMAGE_SIZE, cifar10_superclasses
from benchmarks.paired_studies import ARMS, Job, write_down
from benchmarks.paired_training import Regime, build, trunk_checksum
from benchmarks.tables import environment, read
from benchmarks.zipped_pictures import read_zip
from keras_inception.supervision import AUXILIARY_WEIGHT

NAME = "batch norm, full width"
REGIME = Regime(
    "he",
    batch_norm=True,
    learning_rate=0.2,
    epochs=10,
    width=1.0,
    batch=500,  # divides both parts: one program for each
    dtype="mixed_bfloat16",
)


def measure_heads(emit: Callable, options: argparse.Namespace) -> None:
    """Trains what `options.studies` lacks, until the time is over.

    Args:
        emit: Writes a row.
        options: `cifar10`, `heads_seconds`, `studies`, `smoke`, and `began`:
            when the process started, on `time.perf_counter`.
    """
    out = Path(options.studies)
    out.mkdir(parents=True, exist_ok=True)
    regime, stride = REGIME, 1
    if options.smoke:
        regime, stride = dataclasses.replace(regime, width=0.125, batch=10), 250
    keras.config.set_dtype_policy(regime.dtype)
    train, (images, labels), class_names = read_zip(options.cifar10, stride)
    held_out = np.asarray(enlarge(images, IMAGE_SIZE)), np.eye(10)[labels]
    superclasses = cifar10_superclasses(class_names)
    model = build(regime, ARMS["paper"], superclasses, seed=0)
    steps = regime.epochs * (len(train[1]) // regime.batch)
    rate = keras.optimizers.schedules.CosineDecay(regime.learning_rate, steps)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    model.compile(optimizer, loss="categorical_crossentropy")
    optimizer.build(model.trainable_variables)
    seconds = 0.0  # of a training
    for job in missing(out):
        started = time.perf_counter()
        if started - options.began + seconds > options.heads_seconds:
            break
        restore(model, build(regime, ARMS["paper"], superclasses, job.seed))
        heads = [name_of(endpoint) for endpoint in ARMS[job.arm].endpoints]
        for head, weight in model.auxiliary_weights.items():
            weight.assign(AUXILIARY_WEIGHT if head in heads else 0.0)
        pictures = Pictures(*train, regime.batch, IMAGE_SIZE, seed=job.seed)
        row = {
            "per_class": len(train[1]) // 10,
            "held_out": len(labels),
            "epochs": regime.epochs,
            "order": zlib.crc32(pictures.order.tobytes()),
            "trunk": trunk_checksum(model),
        }
        history = model.fit(
            pictures,
            epochs=regime.epochs,
            validation_data=held_out,
            validation_batch_size=regime.batch,
            verbose=0,
        ).history
        seconds = time.perf_counter() - started
        row |= figures(history, ["main", *heads])
        row |= {"seconds": round(seconds), "attributed": 0, "card": about()["card"]}
        write_down(out, job, row | environment(), {})
        emit(way=f"heads: {job.arm}", seed=job.seed, seconds=seconds)


def missing(out: Path) -> list[Job]:
    """The trainings whose rows are not there: whole comparisons first."""
    jobs = [
        Job("cifar10", NAME, arm, seed)
        for arms in (("no heads", "paper"), ("4a", "4d"))
        for seed, arm in itertools.product(range(5), arms)
    ]
    rows = read(out / "trainings.csv")
    return [
        job for job in jobs if not any(job.row().items() <= r.items() for r in rows)
    ]


def name_of(endpoint: str) -> str:
    """The output of a head at an Inception module."""
    return endpoint.replace("inception_", "aux_")


def restore(model, first) -> None:
    """Gives a model the variables of another, and a new optimizer's."""
    for layer, source in zip(model.layers, first.layers, strict=True):
        for variable, value in zip(layer.variables, source.variables, strict=True):
            variable.assign(value)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape))


def figures(history: dict, outputs: list[str]) -> dict[str, object]:
    """The columns of a training's curves, as in `paired_training.train`."""
    found: dict[str, object] = {}
    for name in outputs:
        curve = [round(value, 5) for value in history[f"val_{name}_accuracy"]]
        found |= {f"{name}_accuracy": curve[-1], f"{name}_curve": json.dumps(curve)}
    losses = [round(value, 4) for value in history["val_main_loss"]]
    return found | {"main_losses": json.dumps(losses)}
