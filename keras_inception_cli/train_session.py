"""The work of `train`, from options to a run directory.

Imports Keras and TensorFlow, which takes seconds; `train.py` does not.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import keras

import keras_inception as ki
from keras_inception import data, training
from keras_inception.attribution import explain_attribution, write_attribution
from keras_inception.defaults import input_size_of
from keras_inception.training import Devices, RunDirectory
from keras_inception_cli.console import quiet_start
from keras_inception_cli.data_options import (
    check_class_names,
    describe_data,
    find_data,
)
from keras_inception_cli.head_names import describe_heads
from keras_inception_cli.splits import read_dataset, read_manifest
from keras_inception_cli.train_config import TrainConfig
from keras_inception_cli.train_contexts import reproducible, scratch_run
from keras_inception_cli.train_frozen import on_features
from keras_inception_cli.train_job import Job
from keras_inception_cli.train_network import (
    build_model,
    compile_model,
    settle_weights,
)
from keras_inception_cli.train_options import run_path
from keras_inception_cli.train_plan import fit_to_pictures, fit_to_time
from keras_inception_cli.train_settings import final_run_config, hparams


def run(options: argparse.Namespace) -> None:
    """Trains a network and leaves a run directory."""
    started = time.perf_counter()
    with quiet_start():
        config = TrainConfig.resolve(options)
        devices = Devices(options.devices)
    if devices.workers > 1 and config.time_limit:
        raise ValueError(
            "--time-limit would end the run after another epoch on each machine: leave "
            f"it out, or train on one machine. Received: {devices.workers} workers"
        )
    if devices.replicas > 1 and config.accumulate > 1:
        raise ValueError(
            "Keras cannot accumulate gradients on several devices: leave out "
            "--accumulate, or train on one device. Received: --accumulate "
            f"{config.accumulate} on {devices.replicas} devices"
        )
    manifest = dataset = None
    if options.resume:
        run = RunDirectory.open(run_path(options))
        manifest, dataset = read_manifest(run), read_dataset(run)
    try:
        source = find_data(config, dataset, manifest=manifest)
    except FileNotFoundError as error:
        if manifest is None:
            raise
        raise FileNotFoundError(
            f"{error} If the pictures of the run are elsewhere now, name their "
            f"folder: train DATA --name {run_path(options).name} --resume"
        ) from None
    known_as_bad = len(source.bad)
    if not options.resume:
        config = settle_weights(options, config)
        config = fit_to_pictures(options, config, source)
    with reproducible(config), scratch_run(devices) as scratch, devices.scope():
        job = prepare(options, config, source, devices)
        config = job.config
        # only now, since --overwrite deletes the earlier run
        directory = scratch or job.run
        if directory is None:
            path = run_path(options, source.name)
            directory = RunDirectory.create(path, overwrite=options.overwrite)
        describe(job, devices)
        job = job._replace(**on_features(job, devices))
        if config.time_limit and job.state is None:
            job = within_time(job, devices, started)
        with training.first_interrupt() as interrupted:
            result = train_job(job, devices, directory, started, interrupted)
    if len(source.bad) > known_as_bad:
        print(f"skipped {len(source.bad)} bad pictures: {source.bad.listed()}")
    if result["stopped"]:
        print(f"stopped by {result['stopped']} after {result['epochs']} epochs")
    print(
        f"best: val_main_accuracy {result['val_main_accuracy']:.4f} in epoch "
        f"{result['best_epoch']}, after {result['seconds']:.0f} s"
    )
    print("the chief worker wrote the run" if scratch else f"wrote {directory.model}")


def prepare(
    options: argparse.Namespace,
    config: TrainConfig,
    source: data.Source,
    devices: Devices,
) -> Job:
    """A new network, or that of the run to resume, and the pictures to train it on."""
    run = checkpoint = None
    if options.resume:
        run = RunDirectory.open(run_path(options))
        run.check_resumable()
        devices.check_agreement(run.epochs_done(), "the number of finished epochs")
        checkpoint = run.checkpoint()
    if checkpoint:
        model, state = checkpoint
        check_class_names(model, source)  # TFDS has no list of pictures to compare
    else:
        (model, config), state = build_model(config, source), None
    # features are computed from the first epoch on
    epoch = state["epochs"] if state and not config.feature_copies else 0
    datasets = load_pictures(model, config, source, devices, epoch)
    if state is None:
        compile_model(model, config, steps_per_epoch=len(datasets["train"]))
    return Job(config, model, **datasets, run=run, state=state)


def load_pictures(
    model: ki.DeeplySupervised,
    config: TrainConfig,
    source: data.Source,
    devices: Devices,
    first_epoch: int = 0,
) -> dict[str, Any]:
    """The pictures from an epoch on: `pictures`, `train` and `validation` of a job."""
    pictures = data.load(
        source,
        input_size_of(model),
        config.batch_size,
        seed=config.seed,
        augment=config.augment,
        mirror=config.mirror,
        first_epoch=first_epoch,
    )
    share = devices.share
    return {
        "pictures": pictures,
        "train": share(pictures.train, len(source.train), config.batch_size),
        "validation": share(
            pictures.validation, len(source.validation), config.batch_size
        ),
    }


def describe(job: Job, devices: Devices) -> None:
    """Prints the pictures, the network and the devices."""
    model, size = job.model, input_size_of(job.model)
    print(
        f"{describe_data(job.pictures.source)}, "
        f"augmentation: {job.pictures.augmentation}\n"
        f"{model.name} at {size}x{size}: {model.count_params():,} parameters, "
        f"auxiliary heads: {describe_heads(model)}"
    )
    if devices.replicas > 1:
        worker = f"; worker {devices.worker} of {devices.workers}"
        print(f"on {devices.replicas} devices" + worker * (devices.workers > 1))
    if job.state:
        print(f"resuming after epoch {job.state['epochs']} of {job.config.epochs}")


def within_time(job: Job, devices: Devices, started: float) -> Job:
    """Lowers the epochs of a new run to those that `--time-limit` leaves room for."""
    model = job.rest or job.model
    left = (job.config.time_limit or 0.0) + started - time.perf_counter()
    config = fit_to_time(job.config, model, job.train, job.validation, left)
    compile_model(job.model, config, steps_per_epoch=len(job.train))
    if job.rest:
        training.compile_rest(job.model, job.rest)
        return job._replace(config=config)
    # The order of an epoch depends on the number of passes before it.
    datasets = load_pictures(job.model, config, job.pictures.source, devices)
    return job._replace(config=config, **datasets)


def train_job(
    job: Job,
    devices: Devices,
    directory: RunDirectory,
    started: float,
    interrupted: Callable[[], bool],
) -> dict[str, Any]:
    """Trains until the end of the run and returns the contents of result.json."""
    config, source = job.config, job.pictures.source
    run_config = final_run_config(config, job, devices)
    size = input_size_of(job.model)
    callbacks = [
        *devices.callbacks,
        training.AuxiliarySchedule(
            config.aux_schedule, config.weight_by_output(job.model.heads)
        ),
        training.TensorBoard(
            directory.tensorboard,
            *data.sample(source, source.validation, 8, size),
            hparams=hparams(run_config.as_json()),
            profile_steps=config.profile,
        ),
    ]
    if config.gradients:
        sample = data.sample(source, source.train, 16, size)
        callbacks.append(ki.GradientFlow(*sample, directory.tensorboard))

    attribution = None
    if config.attribution:
        account = (job.state or {}).get("attribution")
        attribution = ki.LossAttribution(directory.tensorboard, account)
        callbacks.append(attribution)

    def stop_if_bad(batch: int, logs: dict) -> None:
        if source.bad.too_many:
            job.model.stop_training = True

    if devices.workers == 1:  # several workers would not stop at the same step
        callbacks.append(keras.callbacks.LambdaCallback(on_train_batch_end=stop_if_bad))

    def report() -> dict:
        source.bad.check()
        return {
            "bad_pictures": source.bad.report(),
            "passed_over": source.passed_over.report(),
            "duplicates": source.duplicates.report(),
        }

    manifest = data.Manifest.of(source)
    if manifest is not None and not directory.pictures.exists():
        # not earlier: a directory without a config.json is not a run
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_train_begin=lambda logs: manifest.write(directory.pictures)
            )
        )

    result = training.train(
        job.model,
        job.train,
        job.validation,
        directory,
        config=run_config,
        callbacks=callbacks,
        class_weight=data.balanced_class_weights(source.train.labels)
        if config.class_weights
        else None,
        report=report,
        state=job.state,
        patience=config.patience,
        time_limit=config.time_limit
        and config.time_limit + started - time.perf_counter(),
        interrupted=interrupted,
        rest=job.rest,
    )
    if attribution is not None:
        title = f"Which loss moved the weights of {job.model.name}, {source.name}"
        write_attribution(directory.path, attribution.rows, title)
        for sentence in explain_attribution(attribution.rows):
            print(sentence)
    return result
