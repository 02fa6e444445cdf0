"""`train` with a frozen trunk: its features are computed once, before training."""

import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

import keras_inception as ki
from keras_inception import training
from keras_inception.data import Source
from keras_inception.stages import layers_of_trunk
from keras_inception.supervision import check_room
from keras_inception.training import Devices, FeatureBatches
from keras_inception_cli.console import progress_bar
from keras_inception_cli.train_config import TrainConfig
from keras_inception_cli.train_job import Job

COPIES = 4  # docs/fine-tuning.md compares numbers of copies


def on_features(job: Job, devices: Devices) -> dict[str, Any]:
    """The fields of a job that change if it is to train on features; else none."""
    config, model, source = job.config, job.model, job.pictures.source
    copies = config.feature_copies
    if copies is None:
        copies = COPIES if trains_heads_alone(model) else 0
    copies = min(copies, config.epochs)
    if not config.freeze or not copies:
        return {}
    split = ki.split_frozen(model)
    examples = copies * len(source.train) + len(source.validation)
    need = split.bytes_per_example * examples
    try:
        check_possible(config, devices, need)
    except (ValueError, OSError) as error:
        if config.feature_copies:
            raise
        print(f"the frozen trunk runs in every epoch: {error}")
        return {}
    start = time.perf_counter()
    batches = copies * len(job.train) + len(job.validation)
    with progress_bar("features", batches, "batch") as bar:
        passes = [
            split.features(watched(job.train, source, bar)) for _ in range(copies)
        ]
        validation = split.features(watched(job.validation, source, bar))
    seconds = time.perf_counter() - start
    print(
        f"features of the frozen trunk: {copies} augmented copies of each picture, "
        f"{need / 1e6:,.0f} MB, computed in {seconds:.0f} s"
    )
    training.compile_rest(model, split.rest)
    return {
        "train": FeatureBatches(passes, config.batch_size, config.seed),
        "validation": FeatureBatches([validation], config.batch_size),
        "rest": split.rest,
    }


def trains_heads_alone(model: ki.DeeplySupervised) -> bool:
    """Whether every stage of the network is frozen."""
    stages = layers_of_trunk(model).values()
    return not any(layer.trainable_weights for layers in stages for layer in layers)


def check_possible(config: TrainConfig, devices: Devices, need: int) -> None:
    """Raises an error if a run cannot train on features, `need` bytes of them."""
    if devices.replicas > 1:
        raise ValueError(
            "features are kept on one device only. Received: --devices "
            f"{devices.replicas}"
        )
    if config.attribution:
        raise ValueError(
            "--attribution follows the training of the whole model: use it with "
            "--feature-copies 0."
        )
    check_room(need)


def watched(dataset: Any, source: Source, bar: tqdm) -> Iterator[Any]:
    """Yields batches and counts them; raises an error if too many pictures are bad."""
    for batch in dataset:
        yield batch
        bar.update()
        source.bad.check()
