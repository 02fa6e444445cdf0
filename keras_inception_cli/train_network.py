"""The network that `train` starts from: built and compiled."""

import dataclasses
from typing import Any

import keras_inception as ki
from keras_inception import optimizers, training
from keras_inception.data import Source
from keras_inception.defaults import (
    default_architecture,
    default_input_size,
    input_size_of,
)
from keras_inception.supervision import SmoothedCrossentropy
from keras_inception_cli.common import load_model
from keras_inception_cli.train_config import TrainConfig


def build_model(config: TrainConfig, source: Source) -> ki.DeeplySupervised:
    """Builds a new network for the pictures, from `--weights` if given."""
    architecture = default_architecture(source.picture_size)
    if config.architecture:
        architecture = ki.ARCHITECTURES[config.architecture]
    if config.weights:
        architecture = ki.GOOGLENET  # the default: the network is the file's
    size = config.image_size or default_input_size(architecture, source.picture_size)
    if config.weights not in (None, "imagenet") and not config.image_size:
        size = input_size_of(load_model(config.weights))
    model = ki.GoogLeNet(
        (size, size, 3),
        classes=len(source.class_names),
        auxiliary=config.build_heads(source.class_names),
        architecture=architecture,
        width=config.width,
        batch_norm=config.batch_norm and not config.weights,
        weights=config.weights,
    )
    if config.freeze:
        ki.optimizers.freeze_through(model, config.freeze)
    model.class_names = source.class_names
    return model


def compile_model(
    model: ki.DeeplySupervised, config: TrainConfig, steps_per_epoch: int
) -> None:
    """Compiles a network with the recipe's optimizer and the heads' loss weights."""
    recipe = dataclasses.replace(
        training.RECIPES[config.recipe], learning_rate=config.learning_rate
    )
    options: dict[str, Any] = {}
    if config.clip_norm is not None:
        options["global_clipnorm"] = config.clip_norm
    if config.accumulate > 1:
        options["gradient_accumulation_steps"] = config.accumulate
    loss: Any = "sparse_categorical_crossentropy"
    if config.label_smoothing:
        loss = SmoothedCrossentropy(config.label_smoothing)
    factors = optimizers.layer_decay_factors(model, config.layer_decay)
    model.compile(
        training.optimizer(
            recipe,
            config.epochs,
            steps_per_epoch,
            factors=factors if config.layer_decay != 1 else None,
            **options,
        ),
        loss=loss,
        loss_weights=config.weight_by_output(model.heads),
        jit_compile="auto" if config.jit_compile is None else config.jit_compile,
    )
