"""Fine-tuning a trained network: which layers learn, and how fast.

The usual two phases: the trunk is frozen and the new classifier learns; then everything
learns at a small rate, the early stages at a smaller one still.
"""

from collections.abc import Mapping

import keras

from keras_inception.architecture import ARCHITECTURES
from keras_inception.layers import PACKAGE


def freeze_through(model: keras.Model, stage: str) -> list[str]:
    """Freezes `stage` and everything before it; call it before `compile`.

    A frozen batch normalisation uses its stored statistics while training too.

    Args:
        model: A functional model.
        stage: The last layer that shall not learn: `"inception_5b"` freezes the whole
            trunk of a GoogLeNet.

    Returns:
        The names of the frozen layers that have weights.

    Raises:
        ValueError: If the model has no layer of this name.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3)
    >>> freeze_through(model, "conv2_3x3")
    ['conv1_7x7_s2', 'conv2_3x3_reduce', 'conv2_3x3']
    """
    names = [layer.name for layer in model.layers]
    if stage not in names:
        stages = [name for name in _stages(model) if "norm" not in name]
        raise ValueError(
            f"There is no stage {stage!r} to freeze through. Stages: "
            f"{', '.join(stages) or ', '.join(names)}"
        )
    # behind a convolution with batch normalisation the stage ends with its ReLU
    last = f"{stage}_relu" if f"{stage}_relu" in names else stage
    frozen = keras.Model(model.input, model.get_layer(last).output).layers
    for layer in frozen:
        layer.trainable = False
    return [layer.name for layer in frozen if layer.weights]


def layer_decay_factors(model: keras.Model, decay: float) -> dict[str, float]:
    """A learning rate factor for each layer of the trunk: `decay` per stage.

    The last stage with weights learns at `decay` of the rate, the one before at `decay`
    squared, and so on; heads and classifier, which are not in the result, at the rate
    itself.

    Args:
        model: A GoogLeNet of any architecture.
        decay: In (0, 1]; 0.8 lets the first convolution of GoogLeNet's twelve stages
            learn at 7 % of the rate.

    Raises:
        ValueError: If `decay` is out of its range.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=())
    >>> factors = layer_decay_factors(model, 0.5)
    >>> factors["inception_5b_1x1"], factors["inception_5a_1x1"]
    (0.5, 0.25)
    """
    if not 0 < decay <= 1:
        raise ValueError(
            "decay is the share of the learning rate that each stage has of the next "
            f"one's: above 0, at most 1. Received: {decay}"
        )
    by_stage: dict[str, list[str]] = {}
    stages = sorted(_stages(model), key=len, reverse=True)
    for layer in model.layers:
        # the longest name that fits: conv2_3x3_reduce is not a part of conv2_3x3
        stage = next((s for s in stages if f"{layer.name}_".startswith(f"{s}_")), None)
        if layer.weights and stage is not None:
            by_stage.setdefault(stage, []).append(layer.name)
    in_order = [stage for stage in _stages(model) if stage in by_stage]
    return {
        name: decay**depth
        for depth, stage in enumerate(reversed(in_order), start=1)
        for name in by_stage[stage]
    }


def _stages(model: keras.Model) -> list[str]:
    """The stages of a GoogLeNet in network order."""
    known = {stage for table in ARCHITECTURES.values() for stage in table.rows}
    return [layer.name for layer in model.layers if layer.name in known]


@keras.saving.register_keras_serializable(PACKAGE)
class LayerwiseSGD(keras.optimizers.SGD):
    """SGD whose learning rate is multiplied by a factor for some layers.

    The factor scales the gradient, which for SGD, with momentum or without, is the same
    as scaling the rate. Weight decay is not scaled.

    Args:
        *args: As `keras.optimizers.SGD`.
        factors: Layer name to factor; other layers have 1.
        **kwargs: As `keras.optimizers.SGD`.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=())
    >>> model.compile(LayerwiseSGD(0.01, factors=layer_decay_factors(model, 0.8)))
    """

    def __init__(self, *args, factors: Mapping[str, float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.factors = dict(factors or {})

    def apply(self, grads, trainable_variables=None):
        variables = trainable_variables
        if variables is None:
            variables = self._trainable_variables
        scaled = []
        for gradient, variable in zip(grads, variables, strict=True):
            # "inception_3a_1x1/kernel", behind the model's name for some layers
            layer = variable.path.split("/")[-2]
            factor = self.factors.get(layer, 1.0)
            if gradient is not None and factor != 1.0:
                gradient = gradient * factor
            scaled.append(gradient)
        return super().apply(scaled, trainable_variables)

    def get_config(self):
        return super().get_config() | {"factors": self.factors}
