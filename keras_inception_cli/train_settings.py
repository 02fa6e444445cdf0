"""The settings of a training, as config.json and TensorBoard keep them."""

import dataclasses
from typing import Any

import keras

from keras_inception.defaults import input_size_of
from keras_inception.graph import has_batch_norm
from keras_inception.training import Devices, RunConfig
from keras_inception_cli.train_config import TrainConfig
from keras_inception_cli.train_job import Job

# The settings by which TensorBoard's HParams tab compares runs.
HPARAMS = (
    *("recipe", "architecture", "image_size", "width", "batch_norm"),
    *("heads", "aux_weight", "aux_schedule", "head_dropout", "head_width"),
    *("learning_rate", "batch_size", "epochs", "augment", "seed"),
)


def final_run_config(config: TrainConfig, job: Job, devices: Devices) -> RunConfig:
    """The configuration with everything that the data and the network decided."""
    import tensorflow as tf

    settings = config.as_json() | {
        "architecture": job.model.name,
        "image_size": input_size_of(job.model),
        "augment": job.pictures.augmentation,
        "class_names": job.pictures.class_names,
        "dataset": job.pictures.source.dataset,
        "devices": devices.replicas,
        "workers": devices.workers,
        "feature_copies": config.freeze and (len(job.train.passes) if job.rest else 0),
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
    }
    if config.weights or config.network:  # the file or the network decided these
        settings["batch_norm"] = has_batch_norm(job.model)
        settings["width"] = None
    if config.network:  # so that --config does not look for weights again
        settings["weights"] = config.weights or "none"
    named = {f.name for f in dataclasses.fields(RunConfig)} & settings.keys()
    return RunConfig(**{name: settings.pop(name) for name in named}, settings=settings)


def hparams(config: dict[str, Any]) -> dict[str, Any]:
    """The columns of TensorBoard's HParams tab."""
    values = {name: config[name] for name in HPARAMS}
    values["heads"] = " ".join(values["heads"]) or "none"
    for name in ("aux_weight", "aux_schedule"):
        if isinstance(values[name], dict):
            pairs = values[name].items()
            values[name] = ",".join(f"{output}={value}" for output, value in pairs)
    return values
