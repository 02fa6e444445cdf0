"""Train GoogLeNet with its auxiliary classifiers on pictures.

Writes RUNS/NAME: config.json, history.csv, model.keras (the epoch with the best
val_main_accuracy), latest.keras (from which --resume continues), tensorboard/ and
result.json.
"""

import argparse
import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_inception_cli import head_options
from keras_inception_cli.console import quiet_start
from keras_inception_cli.data_options import describe_data, find_data
from keras_inception_cli.train_callbacks import make_callbacks
from keras_inception_cli.train_config import TrainConfig
from keras_inception_cli.train_network import build_model, compile_model
from keras_inception_cli.train_options import add_arguments, run_path

if TYPE_CHECKING:
    from keras_inception import DeeplySupervised
    from keras_inception.data import Data, Source
    from keras_inception.training import Devices, RunConfig, RunDirectory

__all__ = ["add_arguments", "run"]


class Job(NamedTuple):
    """A compiled model and its pictures; run and state if it resumes."""

    model: "DeeplySupervised"
    pictures: "Data"
    run: "RunDirectory | None" = None
    state: dict | None = None


def run(options: argparse.Namespace) -> None:
    """Trains a network and leaves a run directory."""
    with quiet_start():
        from keras_inception.training import Devices, RunDirectory

        config = TrainConfig.resolve(options)
        devices = Devices(options.devices)
    check_accumulation(config, devices)
    source = find_data(config)
    with (
        reproducible(config),
        scratch_directory(devices) as scratch,
        devices.scope(),
    ):
        job = (
            resume(options, config, source, devices)
            if options.resume
            else begin(config, source, devices)
        )
        if scratch:
            directory = RunDirectory(scratch)
        else:
            path = run_path(options, source.name)
            directory = job.run or RunDirectory.create(
                path, overwrite=options.overwrite
            )
        describe(job, config, devices)
        result = fit(job, config, devices, directory)
    bad = job.pictures.bad
    if bad:
        print(f"skipped {len(bad)} bad pictures: {bad.listed()}")
    print(
        f"best: val_main_accuracy {result['val_main_accuracy']:.4f} in epoch "
        f"{result['best_epoch']}, after {result['seconds']:.0f} s\n"
        + (
            f"wrote {directory.model}"
            if devices.is_chief
            else "the chief wrote the run"
        )
    )


def check_accumulation(config: TrainConfig, devices: "Devices") -> None:
    """Refuses --accumulate on several devices, where Keras fails in mid-run."""
    if devices.replicas > 1 and config.accumulate > 1:
        raise ValueError(
            "Keras cannot accumulate gradients on several devices: leave out "
            f"--accumulate, or train on one device. Received: --accumulate "
            f"{config.accumulate} on {devices.replicas} devices"
        )


@contextlib.contextmanager
def reproducible(config: TrainConfig) -> Iterator[None]:
    """Seeds everything, makes operations deterministic, and sets the precision."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(config.seed)
    if not config.jit_compile or keras.backend.backend() != "tensorflow":
        # Keras does not use XLA where TensorFlow must be deterministic.
        tf.config.experimental.enable_op_determinism()
    before = keras.config.dtype_policy()
    if config.mixed_precision:
        keras.config.set_dtype_policy(f"mixed_{config.mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def scratch_directory(devices: "Devices") -> Iterator[str | None]:
    """A temporary run directory for workers other than the chief.

    Every worker has to take part in saving; only the chief's files are kept.
    """
    if devices.is_chief:
        yield None
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield directory


def begin(config: TrainConfig, source: "Source", devices: "Devices") -> Job:
    """A new network, compiled by its recipe."""
    model = build_model(config, source)
    pictures = load_pictures(config, source, model)
    steps = len(share(pictures.train, source.train, config, devices))
    compile_model(model, config, steps)
    return Job(model, pictures)


def resume(
    options: argparse.Namespace,
    config: TrainConfig,
    source: "Source",
    devices: "Devices",
) -> Job:
    """The network of an interrupted run as its last finished epoch left it."""
    from keras_inception.training import RunDirectory

    run = RunDirectory.open(run_path(options))
    run.check_resumable()
    devices.check_agreement(run.epochs_done(), "the number of finished epochs")
    checkpoint = run.checkpoint()
    if checkpoint is None:
        return begin(config, source, devices)._replace(run=run)
    model, state = checkpoint
    pictures = load_pictures(config, source, model, first_epoch=state["epochs"])
    return Job(model, pictures, run, state)


def load_pictures(
    config: TrainConfig, source: "Source", model: "DeeplySupervised", first_epoch=0
) -> "Data":
    """Both pipelines, the first pass over `train` being epoch `first_epoch`."""
    from keras_inception import data
    from keras_inception.defaults import input_size_of

    return data.load(
        source,
        input_size_of(model),
        config.batch_size,
        seed=config.seed,
        augment=config.augment,
        mirror=config.mirror,
        first_epoch=first_epoch,
    )


def share(dataset, split, config: TrainConfig, devices: "Devices"):
    """A pipeline of one split, in batches that all devices can share."""
    return devices.share(dataset, len(split), config.batch_size)


def describe(job: Job, config: TrainConfig, devices: "Devices") -> None:
    """Prints what is about to be trained on what."""
    from keras_inception.defaults import input_size_of

    model, size = job.model, input_size_of(job.model)
    print(
        f"{describe_data(job.pictures.source)}, "
        f"augmentation: {job.pictures.augmentation}\n"
        f"{model.name} at {size}x{size}: {model.count_params():,} parameters, "
        f"auxiliary heads: {head_options.describe_heads(model)}"
    )
    if devices.replicas > 1:
        worker = f"; worker {devices.worker} of {devices.workers}"
        print(f"on {devices.replicas} devices" + worker * (devices.workers > 1))
    if job.state:
        print(f"resuming after epoch {job.state['epochs']} of {config.epochs}")


def fit(
    job: Job, config: TrainConfig, devices: "Devices", directory: "RunDirectory"
) -> dict[str, Any]:
    """Trains until the last epoch and returns the contents of result.json."""
    from keras_inception import data, training

    source, bad = job.pictures.source, job.pictures.bad
    run_config = complete(config, job, devices)

    def report() -> dict:
        bad.check()
        return {"bad_pictures": bad.report()}

    return training.train(
        job.model,
        share(job.pictures.train, source.train, config, devices),
        share(job.pictures.validation, source.validation, config, devices),
        directory,
        config=run_config,
        callbacks=make_callbacks(
            job.model, job.pictures, config, run_config, devices, directory
        ),
        class_weight=data.balanced_class_weights(source.train.labels)
        if config.class_weights
        else None,
        report=report,
        state=job.state,
    )


def complete(config: TrainConfig, job: Job, devices: "Devices") -> "RunConfig":
    """The configuration with everything that the data and the network decided."""
    import keras
    import tensorflow as tf

    from keras_inception.defaults import input_size_of
    from keras_inception.training import RunConfig

    settings = config.as_json() | {
        "architecture": job.model.name,
        "image_size": input_size_of(job.model),
        "augment": job.pictures.augmentation,
        "class_names": job.pictures.class_names,
        "devices": devices.replicas,
        "workers": devices.workers,
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
    }
    if config.weights:  # the file decided these
        norms = (
            isinstance(layer, keras.layers.BatchNormalization)
            for layer in job.model.layers
        )
        settings |= {"batch_norm": any(norms), "width": None}
    named = {f.name for f in dataclasses.fields(RunConfig)} & settings.keys()
    return RunConfig(**{name: settings.pop(name) for name in named}, settings=settings)
