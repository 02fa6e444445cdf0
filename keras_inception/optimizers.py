"""Fine-tuning a trained network: which layers learn, and how fast.

The usual two phases: the trunk is frozen and the new classifier learns; then everything
learns at a small rate, the early stages at a smaller one still.
"""

from collections.abc import Mapping

import keras

from keras_inception.architecture import ARCHITECTURES, stage_of
from keras_inception.graph import owner_of
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
    stages = _stages(model)
    for layer in model.layers:
        stage = stage_of(layer.name, stages)
        if layer.weights and stage is not None:
            by_stage.setdefault(stage, []).append(layer.name)
    in_order = [stage for stage in stages if stage in by_stage]
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
    """SGD with a rate and a decay of their own for some weights, as in Caffe.

    The factors scale the gradient, which for SGD, with momentum or without, is the same
    as scaling the rate.

    Args:
        *args: As `keras.optimizers.SGD`.
        factors: Layer name to a factor on its learning rate; other layers have 1.
        bias_factor: Another factor, on the rate of biases. Defaults to 1.
        kernel_decay: L2 penalty whose gradient, `kernel_decay * kernel`, is added to
            that of kernels before momentum, as Caffe and torch do; no other weights
            decay. (Keras's own `weight_decay` acts beside the momentum, which for the
            same number is ten times less at momentum 0.9.) Defaults to 0.
        **kwargs: As `keras.optimizers.SGD`.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=())
    >>> model.compile(LayerwiseSGD(0.01, factors=layer_decay_factors(model, 0.8)))
    """

    def __init__(
        self,
        *args,
        factors: Mapping[str, float] | None = None,
        bias_factor: float = 1.0,
        kernel_decay: float = 0.0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.factors = dict(factors or {})
        self.bias_factor, self.kernel_decay = bias_factor, kernel_decay

    def apply(self, grads, trainable_variables=None):
        variables = trainable_variables
        if variables is None:
            variables = self._trainable_variables
        pairs = zip(grads, variables, strict=True)
        return super().apply(
            [self._own(gradient, variable) for gradient, variable in pairs],
            trainable_variables,
        )

    def _own(self, gradient, variable):
        if gradient is None:
            return None
        layer, kind = owner_of(variable)
        if kind == "kernel" and self.kernel_decay:
            gradient = gradient + self.kernel_decay * keras.ops.cast(
                variable, gradient.dtype
            )
        factor = self.factors.get(layer, 1.0)
        if kind == "bias":
            factor *= self.bias_factor
        return gradient if factor == 1.0 else gradient * factor

    def get_config(self):
        return super().get_config() | {
            "factors": self.factors,
            "bias_factor": self.bias_factor,
            "kernel_decay": self.kernel_decay,
        }
