"""The network that `train` starts from: built and compiled."""

import argparse
import dataclasses
from typing import Any

import keras

import keras_inception as ki
from keras_inception import networks, optimizers, training
from keras_inception.data import Source
from keras_inception.defaults import (
    default_architecture,
    default_input_size,
    input_size_of,
)
from keras_inception.graph import all_layers
from keras_inception.outputs import MAIN, main_of, outputs_by_name
from keras_inception.supervision import evenly_placed
from keras_inception.weights.pretrained import copy_output
from keras_inception_cli.common import load_model
from keras_inception_cli.train_config import TrainConfig


def settle_weights(options: argparse.Namespace, config: TrainConfig) -> TrainConfig:
    """Decides whether a network of `--network` starts from ImageNet's weights.

    It does unless `--weights` says otherwise or they can't be had, which is printed.
    The choice is stored as if it was typed.
    """
    name = config.network
    if not name or name.endswith(".keras") or "weights" in TrainConfig.given(options):
        return config
    try:
        networks.application(name, networks.default_size(name), 1000, "imagenet")
        options.weights = "imagenet"
    except OSError as error:
        options.weights = "none"
        print(f"{error} {name} starts from random weights.")
    return TrainConfig.resolve(options)


def build_model(
    config: TrainConfig, source: Source
) -> tuple[ki.DeeplySupervised, TrainConfig]:
    """Builds a new network for the pictures, from `--weights` if given.

    Returns it and the config, in which heads given by number have their endpoints.
    """
    if config.network:
        plain, trained = _plain_network(config, config.network, source)
        if config.number_of_heads is not None:
            endpoints = evenly_placed(plain, config.number_of_heads)
            config = dataclasses.replace(config, heads=tuple(endpoints))
        norm = keras.layers.BatchNormalization
        batch_norm = any(isinstance(layer, norm) for layer in all_layers(plain))
        heads = config.build_heads(source.class_names, batch_norm)
        model = ki.attach_auxiliary(plain, heads)
        if trained is not None:
            _keep_heads(model, trained, config)
    else:
        model = _googlenet(config, source)
    if config.freeze:
        ki.optimizers.freeze_through(model, config.freeze)
    model.class_names = source.class_names
    return model, config


def _plain_network(
    config: TrainConfig, network: str, source: Source
) -> tuple[keras.Model, keras.Model | None]:
    """The network of `--network` without heads, and the file's model if it is one."""
    classes, size = len(source.class_names), config.image_size
    if not network.endswith(".keras"):
        size = size or networks.default_size(network, source.picture_size)
        return networks.application(network, size, classes, config.weights), None
    if config.mixed_precision:
        raise ValueError(
            "--mixed-precision would not reach the layers of "
            f"{network}, which keep their types: leave it out."
        )
    model = load_model(network)
    if size is None and None in model.inputs[0].shape[1:3]:
        size = networks.default_size(None, source.picture_size)
    try:
        return networks.adapted(model, classes, size), model
    except ValueError as error:
        raise ValueError(f"{network} is not a network to train: {error}") from None


def _keep_heads(
    model: ki.DeeplySupervised, trained: keras.Model, config: TrainConfig
) -> None:
    """Copies heads that the file has for the same classes, and says what is new."""
    old = outputs_by_name(trained)
    kept = []
    if main_of(old).shape[-1] == model.output[MAIN].shape[-1]:
        kept = [MAIN, *(n for n in model.heads if copy_output(trained, model, n))]
    new = ", ".join(output for output in model.output if output not in kept)
    ending = f"; new {new}" if new else ""
    print(f"{config.network}: kept {', '.join(['the trunk', *kept])}{ending}")


def _googlenet(config: TrainConfig, source: Source) -> ki.DeeplySupervised:
    architecture = default_architecture(source.picture_size)
    if config.architecture:
        architecture = ki.ARCHITECTURES[config.architecture]
    if config.weights:
        architecture = ki.GOOGLENET  # the default: the network is the file's
    size = config.image_size or default_input_size(architecture, source.picture_size)
    if config.weights not in (None, "imagenet") and not config.image_size:
        size = input_size_of(load_model(config.weights))
    return ki.GoogLeNet(
        (size, size, 3),
        classes=len(source.class_names),
        auxiliary=config.build_heads(source.class_names),
        architecture=architecture,
        width=config.width,
        batch_norm=config.batch_norm and not config.weights,
        weights=config.weights,
    )


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
    factors = optimizers.layer_decay_factors(model, config.layer_decay)
    model.compile(
        training.optimizer(
            recipe,
            config.epochs,
            steps_per_epoch,
            factors=factors if config.layer_decay != 1 else None,
            **options,
        ),
        loss_weights=config.weight_by_output(model.heads),
        jit_compile="auto" if config.jit_compile is None else config.jit_compile,
    )
