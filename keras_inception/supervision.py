"""Auxiliary classifiers: describing heads, hanging them on a model, training them.

A `DeeplySupervised` model is a plain functional Keras model with several named outputs.
What it adds is that `compile` and `fit` take the short form: one label per picture, one
loss, one weight for the heads.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence

import keras

from keras_inception.layers import PACKAGE, Output, head_logits

MAIN = "main"
AUXILIARY_WEIGHT = 0.3  # the paper, section 5


@dataclasses.dataclass(frozen=True)
class AuxiliaryHead:
    """One auxiliary classifier: where it hangs and how it is built.

    Paper, section 5: average pool 5x5/3, 1x1 convolution, dense, dropout, dense,
    softmax. On maps smaller than 5x5 the pool covers the whole map; on maps larger than
    16x16 its windows grow and the grid stays 4x4. On vectors and sequences pool and
    convolution are left out.

    Args:
        at: Endpoint (layer) whose output the head reads, `"inception_4a"`.
        name: Name of the output and prefix of the head's layers. Defaults to `aux_`
            and `at` without `inception_`: `"aux_4a"`.
        filters: Width of the 1x1 convolution. Defaults to 128.
        units: Width of the dense layer. Defaults to 1024.
        dropout: Share dropped before the last dense layer, in [0, 1). Defaults to 0.7.
        batch_norm: Whether the convolution is followed by batch normalisation.
        superclasses: For each class, in order, the coarser class that this head learns
            (all names or all numbers); `None` (default): the classes themselves.

    Raises:
        ValueError: If a number is out of its range, or `superclasses` names fewer than
            two coarse classes or mixes names with numbers.

    Example:
    >>> AuxiliaryHead("inception_4a").name
    'aux_4a'
    >>> AuxiliaryHead("inception_3b", superclasses=["animal", "animal", "tool"]).name
    'aux_3b'
    """

    at: str
    name: str | None = None
    filters: int = 128
    units: int = 1024
    dropout: float = 0.7
    batch_norm: bool = False
    superclasses: Sequence[str | int] | None = None

    def __post_init__(self):
        if self.name is None:
            name = f"aux_{self.at.removeprefix('inception_')}"
            object.__setattr__(self, "name", name)
        if self.name == MAIN or "/" in self.name:
            raise ValueError(
                f"A head needs a name of its own without '/'; {MAIN!r} is the model's "
                f"own output. Received: name={self.name!r}"
            )
        for field in ("filters", "units"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"Head {self.name!r}: `{field}` must be at least 1. Received: "
                    f"{getattr(self, field)}"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"Head {self.name!r}: `dropout` is the share of values dropped, from "
                f"0 up to but not 1. Received: {self.dropout}"
            )
        if self.superclasses is not None:
            names = tuple(self.superclasses)
            object.__setattr__(self, "superclasses", names)
            if len({isinstance(name, str) for name in names}) != 1 or len(
                set(names)
            ) in (0, 1):
                raise ValueError(
                    f"Head {self.name!r}: `superclasses` gives every class the name "
                    "(or the number) of its coarser class, at least two different "
                    f"ones, all names or all numbers. Received: {list(names)}"
                )


def as_head(head: "str | AuxiliaryHead", **defaults) -> AuxiliaryHead:
    """An endpoint's name as a head with `defaults`; a head as it is."""
    if isinstance(head, AuxiliaryHead):
        return head
    if isinstance(head, str):
        return AuxiliaryHead(head, **defaults)
    raise ValueError(
        "A head is an endpoint's name or an AuxiliaryHead. Received: "
        f"{head!r} of type {type(head).__name__}"
    )


def supervise(
    inputs,
    main,
    endpoints: Mapping[str, keras.KerasTensor],
    heads: Sequence[AuxiliaryHead],
    *,
    adaptive_pool: bool = False,
    name: str | None = None,
) -> "DeeplySupervised":
    """Hangs `heads` on a graph that ends in `main`.

    Args:
        inputs: The graph's input tensor or tensors.
        main: Its output: probabilities or logits `(batch, classes)`.
        endpoints: Tensors that heads can read, by name.
        heads: The heads.
        adaptive_pool: See `Architecture.adaptive_head_pool`.
        name: Name of the model.

    Raises:
        ValueError: If a head sits on no endpoint, two heads share a name, or a head's
            superclasses are not one per class.
    """
    classes = main.shape[-1]
    activation = output_activation(main._keras_history.operation)
    outputs = {MAIN: main}
    for head in heads:
        if head.at not in endpoints:
            raise ValueError(
                f"There is no endpoint {head.at!r} for a head. Endpoints: "
                f"{', '.join(endpoints)}"
            )
        if head.name in outputs:
            raise ValueError(
                f"Two heads are called {head.name!r}; give one of them another `name`."
            )
        width = classes
        if head.superclasses is not None:
            width = len(set(head.superclasses))
            if len(head.superclasses) != classes:
                raise ValueError(
                    f"Head {head.name!r}: `superclasses` must name one superclass for "
                    f"each of the {classes} classes. Received "
                    f"{len(head.superclasses)}."
                )
        logits = head_logits(
            endpoints[head.at],
            head.name,
            width,
            filters=head.filters,
            units=head.units,
            dropout=head.dropout,
            batch_norm=head.batch_norm,
            adaptive_pool=adaptive_pool,
        )
        outputs[head.name] = Output(
            activation, superclasses=head.superclasses, name=head.name
        )(logits)
    return DeeplySupervised(inputs, outputs, name=name)


def output_activation(layer) -> str:
    """`"linear"` for a layer that puts out logits, `"softmax"` for one that doesn't."""
    activation = getattr(layer, "activation", None)
    if activation is keras.activations.linear:
        return "linear"
    return "softmax"


def detach_auxiliary(model: "DeeplySupervised") -> keras.Model:
    """The plain model without heads: one input, one output, the same weights.

    Args:
        model: A model with an output called `main`.

    Returns:
        A functional model from the same input to `main` alone. It shares its layers
        with `model`: training one changes the other.

    Raises:
        ValueError: If `model` has no output called `main`.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=("inception_4a",))
    >>> detach_auxiliary(model).output.shape
    (None, 3)
    """
    outputs = model.output
    if not isinstance(outputs, dict) or MAIN not in outputs:
        raise ValueError(
            f"detach_auxiliary needs a model whose outputs are a dict with {MAIN!r}, "
            f"as GoogLeNet() and attach_auxiliary() make. Received outputs: {outputs}"
        )
    return keras.Model(model.input, outputs[MAIN], name=model.name)


@keras.saving.register_keras_serializable(PACKAGE)
class LossWeights(keras.metrics.Metric):
    """Holds the heads' loss weights as variables that a callback can change.

    A metric only in form: metrics' variables are the one kind of state that Keras
    carries through a compiled training step on every backend (JAX compiles any other
    variable in as a constant) and that counts neither as a parameter nor as a weight to
    be saved. Its result is empty, so that nothing appears in the logs.
    """

    def __init__(self, names: Sequence[str], name: str = "loss_weights", **kwargs):
        super().__init__(name=name, **kwargs)
        self.by_name = {
            head: self.add_variable((), "ones", name=f"{head}_loss_weight")
            for head in names
        }

    def update_state(self, *args, **kwargs):
        pass

    def reset_state(self):
        pass

    def result(self):
        return {}

    # The values travel in the compile configuration, as numbers.
    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass


@keras.saving.register_keras_serializable(PACKAGE)
class DeeplySupervised(keras.Model):
    """A functional model with a `main` output and auxiliary ones, by name.

    Made by `GoogLeNet()` and `attach_auxiliary()`. Its outputs are always a dict. It
    trains on `(images, labels)`: the labels go to every output, each head's coarse
    labels are derived from them, and `class_weight` and `sample_weight` reach every
    head. Keras's explicit form (labels, losses, weights and metrics in dicts by output
    name) works as well.

    Logs are named by output whatever the number of heads: `main_loss`,
    `main_accuracy`, `aux_4a_accuracy`, `val_main_accuracy`.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=("inception_4a",))
    >>> model.compile("sgd", loss_weights=0.3)
    >>> images, labels = np.zeros((2, 64, 64, 3)), np.array([0, 1])
    >>> history = model.fit(images, labels, verbose=0)
    >>> sorted(history.history)
    ['aux_4a_accuracy', 'aux_4a_loss', 'loss', 'main_accuracy', 'main_loss']
    """

    # Names of the classes in label order, where known; saved with the model.
    class_names: list[str] | None = None

    @property
    def heads(self) -> list[str]:
        """The names of the auxiliary outputs, in network order."""
        return [name for name in self.output if name != MAIN]

    def compile(
        self,
        optimizer="rmsprop",
        loss="sparse_categorical_crossentropy",
        loss_weights=AUXILIARY_WEIGHT,
        metrics=("accuracy",),
        weighted_metrics=None,
        **kwargs,
    ):
        """Configures training; what is given once serves every output.

        Args:
            optimizer: As in `keras.Model.compile`.
            loss: One loss for every output, or a dict that names a loss for each.
                Labels are class indices by default;
                `"categorical_crossentropy"` takes one-hot labels. Both, given by
                name, are computed from logits where an output is logits.
            loss_weights: A number for every auxiliary head (default 0.3, the paper's)
                or a dict that names every head. `main` counts 1 unless the dict says
                otherwise. Read and changed later through `auxiliary_weights`.
            metrics: For every output, or a dict by output. Defaults to accuracy.
            weighted_metrics: Likewise; they respect `sample_weight`. Defaults to none.
            **kwargs: As in `keras.Model.compile`: `jit_compile`, `run_eagerly`,
                `steps_per_execution`, `auto_scale_loss`.

        Raises:
            ValueError: If a dict names an output that does not exist or leaves out one
                that it must name, or a weight is no number of at least 0.
        """
        weights = self._loss_weights_by_name(loss_weights)
        if not hasattr(self, "_loss_weights"):
            self._loss_weights = LossWeights(self.heads)
        for name, variable in self._loss_weights.by_name.items():
            variable.assign(weights[name])
        super().compile(
            optimizer=optimizer,
            loss=self._losses_by_name(loss),
            loss_weights=weights | self._loss_weights.by_name,
            metrics=self._metrics_by_name("metrics", metrics),
            weighted_metrics=self._metrics_by_name(
                "weighted_metrics", weighted_metrics
            ),
            **kwargs,
        )

    @property
    def auxiliary_weights(self) -> dict[str, keras.Variable]:
        """Each head's loss weight, after `compile`.

        A `keras.Variable` that a callback can `assign` while training; the next step
        uses the new value, without tracing anew.
        """
        if not self.compiled:
            raise ValueError(
                "The heads have loss weights once `compile()` was called; this model "
                "is not compiled."
            )
        return dict(self._loss_weights.by_name)

    def get_config(self):
        config = super().get_config()
        if self.class_names is not None:
            config["class_names"] = list(self.class_names)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        class_names = config.pop("class_names", None)
        model = super().from_config(config, custom_objects=custom_objects)
        model.class_names = class_names
        return model

    def get_compile_config(self):
        if not self.compiled:
            return None
        # Keras cannot serialize the variables: their present values take their place.
        config = dict(self._compile_config.config)
        values = {
            name: float(weight.value) for name, weight in self.auxiliary_weights.items()
        }
        config["loss_weights"] = config["loss_weights"] | values
        return keras.saving.serialize_keras_object(config)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        y = self._labels_by_name(y)
        sample_weight = self._weights_by_name(sample_weight)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y = self._labels_by_name(y)
        sample_weight = self._weights_by_name(sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self):
        logs = super().get_metrics_result()
        if len(self.output) > 1:
            return logs
        # Keras prefixes nothing where there is one output; our names never change.
        return {"loss": logs["loss"], "main_loss": logs["loss"]} | {
            f"{MAIN}_{name}": value for name, value in logs.items() if name != "loss"
        }

    def _labels_by_name(self, y):
        if y is None:
            return None
        if isinstance(y, dict):
            self._check_names("labels", y, required=self.output)
            return y
        if isinstance(y, (list, tuple)):
            raise ValueError(
                "Labels are one array for every output, or a dict by output name: "
                f"{_listed(self.output)}. Received a {type(y).__name__} of {len(y)}."
            )
        return {
            name: layer.own_labels(y) if isinstance(layer, Output) else y
            for name, layer in self._output_layers_by_name().items()
        }

    def _weights_by_name(self, sample_weight):
        if sample_weight is None:
            return None
        if isinstance(sample_weight, dict):
            self._check_names("sample_weight", sample_weight, required=self.output)
            return sample_weight
        return dict.fromkeys(self.output, sample_weight)

    def _output_layers_by_name(self):
        return {
            name: tensor._keras_history.operation
            for name, tensor in self.output.items()
        }

    def _loss_weights_by_name(self, loss_weights) -> dict[str, float]:
        if loss_weights is None:
            loss_weights = 1.0  # Keras's meaning of None
        if isinstance(loss_weights, dict):
            self._check_names("loss_weights", loss_weights, required=self.heads)
            weights = {MAIN: 1.0} | loss_weights
        elif isinstance(loss_weights, (list, tuple)):
            raise ValueError(
                "loss_weights is one number for every auxiliary head or a dict by name "
                f"({_listed(self.heads)}): a list's order would not be seen. "
                f"Received: {loss_weights}"
            )
        else:
            weights = {MAIN: 1.0} | dict.fromkeys(self.heads, loss_weights)
        checked = {}
        for name, weight in weights.items():
            try:
                checked[name] = float(weight)
            except (TypeError, ValueError):
                checked[name] = math.nan
            if not 0 <= checked[name] < math.inf:
                raise ValueError(
                    f"The loss weight of {name!r} must be a number of at least 0. "
                    f"Received: {weight!r}"
                )
        return checked

    def _losses_by_name(self, loss):
        if isinstance(loss, dict):
            self._check_names("loss", loss, required=self.output)
        elif isinstance(loss, (list, tuple)):
            raise ValueError(
                "loss is one loss for every output or a dict by name "
                f"({_listed(self.output)}). Received: {loss}"
            )
        else:
            loss = {name: _own_copy(loss) for name in self.output}
        layers = self._output_layers_by_name()
        return {
            name: _from_logits(one)
            if output_activation(layers[name]) == "linear"
            else one
            for name, one in loss.items()
        }

    def _metrics_by_name(self, argument, metrics):
        if metrics is None:
            return None
        if isinstance(metrics, dict):
            self._check_names(argument, metrics)
            return dict(metrics)
        if not isinstance(metrics, (list, tuple)):
            metrics = [metrics]
        return {name: [_own_copy(one) for one in metrics] for name in self.output}

    def _check_names(self, argument, given, required=()):
        unknown = [name for name in given if name not in self.output]
        missing = [name for name in required if name not in given]
        if not unknown and not missing:
            return
        faults = []
        if unknown:
            faults.append(f"names no output of this model: {_listed(unknown)}")
        if missing:
            faults.append(f"leaves out: {_listed(missing)}")
        raise ValueError(
            f"{argument} {'; it '.join(faults)}. The outputs are: "
            f"{_listed(self.output)}"
        )


def _listed(names) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def _own_copy(loss_or_metric):
    """A loss or metric for one more output: each must keep its own state."""
    if isinstance(loss_or_metric, (keras.metrics.Metric, keras.losses.Loss)):
        return type(loss_or_metric).from_config(loss_or_metric.get_config())
    return copy.copy(loss_or_metric)


def _from_logits(loss):
    """The crossentropies that Keras knows by name, for outputs without a softmax."""
    by_name = {
        "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
        "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    }
    if isinstance(loss, str) and loss in by_name:
        return by_name[loss](from_logits=True)
    return loss
