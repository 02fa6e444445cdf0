"""Fine-tuning a trained network: frozen layers, and learning rates by layer.

There are usually two phases: first the trunk is frozen and the new classifier trains;
then everything trains at a small learning rate, and early stages at a smaller one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_inception.architecture import stages_in
from keras_inception.graph import (
    optimized_variables,
    owner_of,
    owners_of,
    steps_to,
    unfold,
)
from keras_inception.layers import PACKAGE
from keras_inception.stages import layers_by_stage, layers_of_trunk

MOST_DECAYS = 12  # GoogLeNet's stages; those of deeper networks are grouped


def freeze_through(model: keras.Model, stage: str) -> list[str]:
    """Freezes `stage` and everything before it. Call it before `compile`.

    A frozen batch normalization uses its stored statistics in training, too.

    Args:
        model: A functional model.
        stage: The last part to freeze: a stage, as `gradient_flow` names it, a layer,
            or the path of a layer in a sub-model. `"inception_5b"` freezes the whole
            trunk of a GoogLeNet.

    Returns:
        The names of the frozen layers that have weights.

    Raises:
        ValueError: If the model has no stage or layer of this name.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3)
    >>> freeze_through(model, "conv2_3x3")
    ['conv1_7x7_s2', 'conv2_3x3_reduce', 'conv2_3x3']
    """
    endpoints = unfold(model).endpoints
    last = _layers_called(stage, model, list(endpoints))
    ends = [made for path, made in endpoints.items() if _name_in(path) in last]
    if not ends:
        known = ", ".join(name for name in layers_by_stage(model) if "norm" not in name)
        raise ValueError(f"There is no stage {stage!r} to freeze. Stages: {known}")
    frozen = dict.fromkeys(step.operation for step in steps_to(*ends))
    layers = [layer for layer in frozen if isinstance(layer, keras.layers.Layer)]
    for layer in layers:
        layer.trainable = False
    return [layer.name for layer in layers if layer.weights]


def _layers_called(name: str, model: keras.Model, paths: Sequence[str]) -> set[str]:
    """The names of the layers at the end of a stage, or of one layer."""
    names = [_name_in(path) for path in paths]
    # A sub-model with a head inside is dissolved: its layers no longer have a path.
    if (layer := _name_in(name)) in names:
        return {stages_in(names).get(layer, layer)}
    return {layer.name for layer in layers_by_stage(model).get(name, ())}


def _name_in(path: str) -> str:
    return path.rpartition("/")[2]


def layer_decay_factors(model: keras.Model, decay: float) -> dict[str, float]:
    """Computes a learning rate factor for each layer of the trunk: `decay` per stage.

    The factor is `decay` for the last stage with weights, `decay` squared for the one
    before, and so on; the stages are those of `gradient_flow`. If there are more than
    twelve, neighbors share a factor, so that the first factor is at least `decay` to
    the power of twelve. Heads and classifier are not in the result: their factor is 1.

    Args:
        model: A functional classifier.
        decay: In (0, 1]. With 0.8 the first of GoogLeNet's twelve stages trains at 7 %
            of the learning rate.

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
            "decay is the learning rate of each stage divided by that of the next: "
            f"above 0, at most 1. Received: {decay}"
        )
    stages = layers_of_trunk(model)
    groups = min(len(stages), MOST_DECAYS)
    return {
        layer.name: decay ** (groups - index * groups // len(stages))
        for index, layers in enumerate(stages.values())
        for layer in layers
    }


@keras.saving.register_keras_serializable(PACKAGE)
class LayerwiseSGD(keras.optimizers.SGD):
    """SGD with learning rates by layer, and weight decay for kernels, as in Caffe.

    A factor scales the gradient, which for SGD, with or without momentum, has the same
    effect as scaling the learning rate.

    Args:
        *args, **kwargs: As `keras.optimizers.SGD`.
        factors: Layer name to a factor on its learning rate; 1 for other layers.
        bias_factor: A further factor on the learning rate of biases. Defaults to 1.
        kernel_decay: The gradient `kernel_decay * kernel` of an L2 penalty is added to
            that of each kernel before momentum, as Caffe and torch do; no other weights
            decay. (Keras's own `weight_decay` is applied after the momentum, so at
            momentum 0.9 the same number has a tenth of the effect.) Defaults to 0.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=())
    >>> model.compile(LayerwiseSGD(0.01, factors=layer_decay_factors(model, 0.8)))
    """

    def __init__(
        self,
        *args: Any,
        factors: Mapping[str, float] | None = None,
        bias_factor: float = 1.0,
        kernel_decay: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.factors = dict(factors or {})
        self.bias_factor, self.kernel_decay = bias_factor, kernel_decay

    def apply(
        self,
        grads: Sequence,
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        variables = trainable_variables
        if variables is None:
            variables = optimized_variables(self)
        pairs = zip(grads, variables, strict=True)
        super().apply([self._scaled(*pair) for pair in pairs], trainable_variables)

    def factor_of(self, variable: keras.Variable) -> float:
        """The factor on a variable's learning rate."""
        factors = (self.factors[x] for x in owners_of(variable) if x in self.factors)
        bias = self.bias_factor if owner_of(variable)[1] == "bias" else 1.0
        return next(factors, 1.0) * bias

    def decay_of(self, variable: keras.Variable) -> float:
        """`kernel_decay` for a kernel, 0 for other weights."""
        return self.kernel_decay if owner_of(variable)[1] == "kernel" else 0.0

    def _scaled(self, gradient, variable: keras.Variable):
        if gradient is None:
            return None
        if decay := self.decay_of(variable):
            kernel = keras.ops.cast(variable, gradient.dtype)
            gradient = gradient + decay * kernel
        factor = self.factor_of(variable)
        return gradient if factor == 1.0 else gradient * factor

    def get_config(self) -> dict:
        return super().get_config() | {
            "factors": self.factors,
            "bias_factor": self.bias_factor,
            "kernel_decay": self.kernel_decay,
        }
