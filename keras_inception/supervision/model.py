"""Training with heads in the short form: one label per picture, one weight for all.

A `DeeplySupervised` model is a plain functional Keras model with several named outputs.
What it adds is that `compile` and `fit` take the short form: one label per picture, one
loss, one weight for the heads.
"""

import math

import keras

from keras_inception.graph import compile_arguments, layer_of
from keras_inception.layers import PACKAGE
from keras_inception.outputs import MAIN, Output, output_activation
from keras_inception.supervision.heads import AUXILIARY_WEIGHT
from keras_inception.supervision.losses import LossWeights, from_logits, own_copy


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

    @property
    def output_class_names(self) -> dict[str, list[str] | None]:
        """What the columns of every output mean, `None` where it isn't known.

        Superclasses for a head that learns them, else `class_names`.
        """
        return {
            name: [str(coarse) for coarse in layer.superclass_names]
            if isinstance(layer, Output) and layer.superclasses is not None
            else self.class_names
            for name, layer in self._output_layers_by_name().items()
        }

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
        config = compile_arguments(self)
        values = {
            name: float(keras.ops.convert_to_numpy(weight))
            for name, weight in self.auxiliary_weights.items()
        }
        config["loss_weights"] = config["loss_weights"] | values
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            # Keras wraps the optimizer under mixed_float16, and would not where the
            # model is loaded under another policy: what it remembers would be lost.
            config["optimizer"] = self.optimizer
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
        return {name: layer_of(tensor) for name, tensor in self.output.items()}

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
            loss = {name: own_copy(loss) for name in self.output}
        layers = self._output_layers_by_name()
        return {
            name: from_logits(one)
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
        return {name: [own_copy(one) for one in metrics] for name in self.output}

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
