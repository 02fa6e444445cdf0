"""The recipe, start and length of a training that suit the pictures at hand."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_inception.training.recipes import RECIPES

PRETRAINED_FROM = 48  # pixels; smaller pictures show little that ImageNet's do
MANY = 100_000  # training pictures that teach a network from random weights
FEW, FEW_BATCH = 500, 16  # training pictures, and how many of them make a step
# Steps that a training takes at least, within as many epochs at most. docs/training.md
# has the measurements.
STEPS = {"finetune": 600, "small": 450}
MOST_EPOCHS = {"finetune": 60, "small": 30}


class Plan(NamedTuple):
    """Settings of `train` by name, and why they were chosen."""

    settings: dict[str, Any]
    reason: str


def make_plan(
    pictures: int,
    picture_size: int,
    *,
    batch_size: int | None = None,
    epochs: int | None = None,
    weights: bool = False,
    frozen: bool = False,
    can_fetch_weights: Callable[[], bool] = lambda: False,
) -> Plan:
    """Plans a training.

    Args:
        pictures: The number of training pictures.
        picture_size: Their size in pixels, as in `defaults`.
        batch_size: If it is given. Defaults to the plan's.
        epochs: If they are given. Defaults to the plan's.
        weights: Whether the training starts from weights that are given.
        frozen: Whether a part of the network is frozen; the rest, which is new, then
            learns at the rate of a new network.
        can_fetch_weights: Returns whether the ImageNet weights are available. Called
            only if they would help.

    Example:
    >>> plan = make_plan(1_437, 8)
    >>> plan.settings
    {'recipe': 'small', 'batch_size': 32, 'epochs': 10}
    >>> make_plan(160, 375, can_fetch_weights=lambda: True).settings["weights"]
    'imagenet'
    """
    settings: dict[str, Any] = {}
    wanted = picture_size >= PRETRAINED_FROM and pictures < MANY
    if weights:
        start = "fine-tuning trained weights"
    elif wanted and can_fetch_weights():
        weights, settings["weights"] = True, "imagenet"
        start = "fine-tuning ImageNet's weights"
    else:
        start = "training from random weights"
    reason = f"{pictures:,} training pictures of {picture_size} pixels: {start}"
    name = "finetune" if weights and not frozen else "small"
    settings = {"recipe": name} | settings
    recipe = RECIPES[name]
    batch_size = batch_size or (FEW_BATCH if pictures < FEW else recipe.batch_size)
    settings["batch_size"] = batch_size
    if epochs is None:
        steps = math.ceil(pictures / batch_size)
        wanted_epochs = math.ceil(STEPS[name] / steps)
        epochs = max(recipe.epochs, min(MOST_EPOCHS[name], wanted_epochs))
        settings["epochs"] = epochs
        if epochs > recipe.epochs:
            settings["patience"] = math.ceil(epochs / 3)
    return Plan(settings, reason)
