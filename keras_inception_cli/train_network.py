"""The network that `train` starts from: built and compiled."""

import argparse
import dataclasses
from collections.abc import Sequence
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
from keras_inception.graph import has_batch_norm, unfold
from keras_inception.outputs import MAIN, main_of, may_have_classes, outputs_by_name
from keras_inception.supervision import SmoothedCrossentropy, evenly_placed
from keras_inception.weights.pretrained import copy_output
from keras_inception_cli.head_names import number_in
from keras_inception_cli.train_config import TrainConfig
from keras_inception_cli.train_heads import build_heads


def settle_weights(options: argparse.Namespace, config: TrainConfig) -> TrainConfig:
    """Decides whether a network of `--network` starts from ImageNet's weights.

    The choice is stored as if it had been typed.
    """
    if not config.network or "weights" in TrainConfig.given(options):
        return config
    options.weights = networks.published_weights(config.network, print) or "none"
    return TrainConfig.resolve(options)


def _endpoints(heads: Sequence[str], plain: keras.Model) -> tuple[str, ...]:
    """The endpoints of a network that `--heads` names: by path, layer or number."""
    if (count := number_in(heads)) is not None:
        return tuple(evenly_placed(plain, count))
    known = unfold(plain).endpoints
    paths = {head: [p for p in known if f"/{p}".endswith(f"/{head}")] for head in heads}
    return tuple(
        head if head in known or len(paths[head]) != 1 else paths[head][0]
        for head in heads
    )


def build_model(
    config: TrainConfig, source: Source
) -> tuple[ki.DeeplySupervised, TrainConfig]:
    """Builds a new network for the pictures, from `--weights` if given.

    Returns it and the config, in which heads given by number have their endpoints.
    """
    if config.network:
        plain, trained = networks.plain_network(
            config.network,
            source.class_names,
            source.picture_size,
            config.image_size,
            config.weights,
        )
        config = dataclasses.replace(config, heads=_endpoints(config.heads, plain))
        heads = build_heads(config, source.class_names, has_batch_norm(plain))
        model = ki.attach_auxiliary(plain, heads)
        if trained is not None:
            _keep_heads(model, trained, config, source.class_names)
    else:
        model = _googlenet(config, source)
    if config.freeze:
        ki.optimizers.freeze_through(model, config.freeze)
    model.class_names = source.class_names
    return model, config


def _keep_heads(
    model: ki.DeeplySupervised,
    trained: keras.Model,
    config: TrainConfig,
    class_names: Sequence[str],
) -> None:
    """Copies heads that the file has for the same classes, and prints what is new."""
    old = outputs_by_name(trained)
    kept = []
    same_number = main_of(old).shape[-1] == model.output[MAIN].shape[-1]
    if same_number and may_have_classes(trained, class_names):
        kept = [MAIN, *(n for n in model.heads if copy_output(trained, model, n))]
    new = ", ".join(output for output in model.output if output not in kept)
    ending = f"; new {new}" if new else ""
    print(f"{config.network}: kept {', '.join(['the trunk', *kept])}{ending}")


def _googlenet(config: TrainConfig, source: Source) -> ki.DeeplySupervised:
    architecture = default_architecture(source.picture_size)
    if config.weights:
        architecture = ki.GOOGLENET  # the default: the network is the file's
    elif config.architecture:
        if config.architecture not in ki.ARCHITECTURES:
            raise ValueError(
                f"There is no architecture {config.architecture!r}. Known: "
                f"{', '.join(ki.ARCHITECTURES)}"
            )
        architecture = ki.ARCHITECTURES[config.architecture]
    size = config.image_size or default_input_size(architecture, source.picture_size)
    batch_norm = config.batch_norm
    if config.weights:
        published = config.weights == "imagenet"
        file = ki.weights.imagenet_weights() if published else config.weights
        trained = networks.load_model(str(file), compiled=False)
        batch_norm = has_batch_norm(trained)
        if not published and not config.image_size:
            size = input_size_of(trained)
    return ki.GoogLeNet(
        (size, size, 3),
        classes=len(source.class_names),
        auxiliary=build_heads(config, source.class_names, batch_norm),
        architecture=architecture,
        width=config.width,
        batch_norm=config.batch_norm and not config.weights,
        weights=config.weights,
        class_names=source.class_names,
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
        distillation=config.distillation,
        temperature=config.temperature,
        jit_compile="auto" if config.jit_compile is None else config.jit_compile,
    )
