"""The network that `train` starts from: chosen, built and compiled."""

import dataclasses
from typing import TYPE_CHECKING, Any

from keras_inception_cli.common import load_model
from keras_inception_cli.train_config import TrainConfig

if TYPE_CHECKING:
    from keras_inception import Architecture, DeeplySupervised


def choose_architecture(config: TrainConfig, picture_size: int) -> "Architecture":
    """The architecture of a new network."""
    import keras_inception as ki
    from keras_inception.defaults import default_architecture

    if config.weights:
        return ki.GOOGLENET  # a placeholder: the network is the file's
    if config.architecture:
        return ki.ARCHITECTURES[config.architecture]
    return default_architecture(picture_size)


def choose_input_size(
    config: TrainConfig, architecture: "Architecture", picture_size: int
) -> int:
    """The input size of a new network."""
    from keras_inception.defaults import default_input_size, input_size_of

    if config.image_size:
        return config.image_size
    if config.weights and config.weights != "imagenet":
        return input_size_of(load_model(config.weights))
    return default_input_size(architecture, picture_size)


def build_model(
    config: TrainConfig,
    architecture: "Architecture",
    class_names: list[str],
    size: int,
) -> "DeeplySupervised":
    """A new network, from `--weights` if given, with its heads."""
    import keras_inception as ki

    model = ki.GoogLeNet(
        (size, size, 3),
        classes=len(class_names),
        auxiliary=config.build_heads(class_names),
        architecture=architecture,
        width=config.width,
        batch_norm=config.batch_norm and not config.weights,
        weights=config.weights,
    )
    if config.freeze:
        ki.optimizers.freeze_through(model, config.freeze)
    model.class_names = class_names
    return model


def compile_model(
    model: "DeeplySupervised", config: TrainConfig, steps_per_epoch: int
) -> None:
    """Compiles a network with the recipe's optimizer and the heads' loss weights."""
    from keras_inception import optimizers, training

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
