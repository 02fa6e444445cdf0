"""Recipes: how to train, as data. `--recipe paper` names a row of `RECIPES`."""

import dataclasses
from types import MappingProxyType
from typing import Any, NamedTuple

import keras

from keras_inception.optimizers import LayerwiseSGD


class Steps(NamedTuple):
    """Multiplies the rate by `factor` every `epochs` epochs."""

    factor: float
    epochs: float


class Polynomial(NamedTuple):
    """Decays the rate to 0 as `(1 - done)^power` (Caffe's "poly")."""

    power: float


class Cosine(NamedTuple):
    """Decays the rate to 0 along half a cosine.

    Before that it rises linearly from 0, for `warmup`, a fraction, of the steps.
    """

    warmup: float = 0.0


Schedule = Steps | Polynomial | Cosine


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train a network, always by SGD with momentum 0.9.

    Attributes:
        learning_rate: The highest: in the first step, or at the end of the warmup.
        schedule: How the learning rate changes.
        epochs: Passes over the training pictures.
        batch_size: Pictures per step.
        batch_norm: Whether the network has batch normalization.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: L2 penalty on kernels; biases and batch normalization have none.
        bias_rate: The biases' learning rate as a multiple of the kernels'.
        polyak: Momentum of the averaged weights, which are validated and saved; `None`:
            no averaging.
        layer_decay: See `optimizers.layer_decay_factors`; 1 for none.
        aux_weight: Each head's loss weight.
        aux_schedule: Its schedule: `"constant"`, `"linear"`, `"cosine"`.
        augment: Augmentation of the pictures; `None`: by their size.
        label_smoothing: The part of each label that all classes share.
        source: Where the numbers come from.
    """

    learning_rate: float
    schedule: Schedule
    epochs: int
    batch_size: int
    batch_norm: bool
    nesterov: bool = False
    weight_decay: float = 0.0
    bias_rate: float = 1.0
    polyak: float | None = None
    layer_decay: float = 1.0
    aux_weight: float = 0.3
    aux_schedule: str = "constant"
    augment: str | None = None
    label_smoothing: float = 0.0
    source: str = ""


MOMENTUM = 0.9

RECIPES = MappingProxyType(
    {
        "paper": Recipe(
            learning_rate=0.01,
            schedule=Steps(0.96, 8),
            epochs=250,
            batch_size=32,
            batch_norm=False,
            polyak=0.9999,
            augment="paper",
            source="arXiv 1409.4842, section 6: momentum 0.9, -4 % every 8 epochs, "
            "Polyak averaging. It gives no rate, batch size or length: the first two "
            "are Caffe's; at this length the rate ends at 0.28 of its start",
        ),
        "caffe-quick": Recipe(
            learning_rate=0.01,
            schedule=Polynomial(0.5),
            epochs=60,
            batch_size=32,
            batch_norm=False,
            weight_decay=2e-4,
            bias_rate=2.0,
            augment="basic",
            source="models/bvlc_googlenet/quick_solver.prototxt and train_val.prototxt "
            "of Caffe: 2.4 million steps of 32 are 60 epochs of ImageNet",
        ),
        "small": Recipe(
            learning_rate=0.02,
            schedule=Cosine(),
            epochs=10,
            batch_size=32,
            batch_norm=True,
            nesterov=True,
            source="used by the demo and the studies on small pictures",
        ),
        "finetune": Recipe(
            learning_rate=0.002,
            schedule=Cosine(),
            epochs=15,
            batch_size=32,
            batch_norm=True,
            nesterov=True,
            weight_decay=1e-4,
            layer_decay=0.8,
            source="docs/fine-tuning.md",
        ),
        "modern": Recipe(
            learning_rate=0.05,
            schedule=Cosine(warmup=0.1),
            epochs=10,
            batch_size=32,
            batch_norm=True,
            nesterov=True,
            weight_decay=5e-4,
            label_smoothing=0.1,
            source="docs/training.md",
        ),
    }
)


def learning_rate(
    rate: float, schedule: Schedule, epochs: int, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A recipe's schedule as a Keras schedule that starts at `rate`.

    Example:
    >>> rate = learning_rate(0.01, Steps(0.96, 8), epochs=250, steps_per_epoch=100)
    >>> [round(float(rate(step)), 4) for step in (0, 799, 800, 1600)]
    [0.01, 0.01, 0.0096, 0.0092]
    """
    schedules, total = keras.optimizers.schedules, epochs * steps_per_epoch
    match schedule:
        case Steps():
            every = max(1, round(schedule.epochs * steps_per_epoch))
            return schedules.ExponentialDecay(
                rate, every, schedule.factor, staircase=True
            )
        case Polynomial():
            return schedules.PolynomialDecay(rate, total, 0.0, schedule.power)
        case Cosine(0.0):
            return schedules.CosineDecay(rate, total)
        case Cosine(warmup):
            rising = max(1, round(warmup * total))
            return schedules.CosineDecay(
                0.0, total - rising, warmup_target=rate, warmup_steps=rising
            )
    raise TypeError(
        f"A schedule is Steps, Polynomial or Cosine. Received: {schedule!r}"
    )


def optimizer(
    recipe: Recipe,
    epochs: int,
    steps_per_epoch: int,
    *,
    factors: dict[str, float] | None = None,
    **options: Any,
) -> LayerwiseSGD:
    """A recipe's optimizer.

    Args:
        recipe: Learning rate, schedule, weight decay, averaging.
        epochs, steps_per_epoch: Length of the training, for the schedule.
        factors: Factor on the learning rate by layer name; other layers have 1.
        **options: More arguments of Keras's SGD, for example `global_clipnorm`.
    """
    rate = learning_rate(recipe.learning_rate, recipe.schedule, epochs, steps_per_epoch)
    return LayerwiseSGD(
        rate,
        momentum=MOMENTUM,
        nesterov=recipe.nesterov,
        factors=factors,
        bias_factor=recipe.bias_rate,
        kernel_decay=recipe.weight_decay,
        use_ema=recipe.polyak is not None,
        ema_momentum=recipe.polyak or 0.99,
        **options,
    )
