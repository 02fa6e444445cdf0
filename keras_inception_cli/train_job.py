"""All that a training needs, from its configuration to its compiled model."""

from typing import Any, NamedTuple

import keras_inception as ki
from keras_inception import data
from keras_inception.training import RunDirectory
from keras_inception_cli.train_config import TrainConfig


class Job(NamedTuple):
    """A compiled model and its pictures; the run and its state if it resumes."""

    config: TrainConfig
    model: ki.DeeplySupervised
    pictures: data.Data
    train: Any  # `pictures.train` and `.validation`, shared among the devices
    validation: Any
    run: RunDirectory | None
    state: dict | None
    rest: ki.DeeplySupervised | None = None  # the part that is trained on features
