"""`DeeplySupervised`: a model that trains several outputs on one label per picture."""

import os
import types
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_inception.graph import compile_arguments, layer_of
from keras_inception.keras_behavior import LogDirections, is_legacy_config
from keras_inception.layers import PACKAGE
from keras_inception.outputs import MAIN, Output, output_activation
from keras_inception.supervision.arguments import (
    check_by_output,
    checked_weight,
    own_copy,
    with_every_class,
)
from keras_inception.supervision.heads import AUXILIARY_WEIGHT
from keras_inception.supervision.losses import Distillation, LossWeights, from_logits
from keras_inception.supervision.nesting import Nesting
from keras_inception.text import check_list

_NO_HDF5 = (
    "Keras's old HDF5 format can't hold the outputs and weights of this model. Save to "
    "a .keras file: model.save('model.keras')."
)


@keras.saving.register_keras_serializable(PACKAGE)
class DeeplySupervised(keras.Model):
    """A functional model with the output `main` and auxiliary outputs, by name.

    `GoogLeNet()` and `attach_auxiliary()` make it. Its outputs are always a dict. It
    trains on `(images, labels)`: every output gets the labels, or the superclasses that
    follow from them, and `class_weight` and `sample_weight` apply to every output.
    Keras's explicit form (labels, losses, weights and metrics in dicts by output) works
    as well.

    The names in logs do not depend on the number of heads: `main_loss`,
    `main_accuracy`, `aux_4a_accuracy`, `val_main_accuracy`. Keras's callbacks know
    which of them should fall and which should rise:
    `keras.callbacks.EarlyStopping("val_main_accuracy")` needs no `mode`.

    Example:
    >>> model = GoogLeNet((64, 64, 3), classes=3, auxiliary=("inception_4a",))
    >>> model.compile("sgd", loss_weights=0.3)
    >>> images, labels = np.zeros((2, 64, 64, 3)), np.array([0, 1])
    >>> history = model.fit(images, labels, verbose=0)
    >>> sorted(history.history)
    ['aux_4a_accuracy', 'aux_4a_loss', 'loss', 'main_accuracy', 'main_loss']
    """

    nesting: Nesting | None = None  # if heads are inside sub-models

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes in label order, or `None`; saved with the model."""
        return self._names_store().class_names

    @class_names.setter
    def class_names(self, names: Sequence[str] | None) -> None:
        check_list("class_names", names)
        self._names_store().class_names = None if names is None else list(names)

    @property
    def heads(self) -> list[str]:
        """The names of the auxiliary outputs, in the order of the heads."""
        return [name for name in self.output if name != MAIN]

    @property
    def output_class_names(self) -> dict[str, list[str] | None]:
        """The names of every output's columns: superclasses, else `class_names`."""
        names: dict[str, list[str] | None]
        names = dict.fromkeys(self.output, self.class_names)
        for output, layer in self._output_layers():
            if isinstance(layer, Output) and layer.superclass_names is not None:
                names[output] = list(map(str, layer.superclass_names))
        return names

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = "sparse_categorical_crossentropy",
        loss_weights: float | Mapping[str, float] | None = AUXILIARY_WEIGHT,
        metrics: Any = ("accuracy",),
        weighted_metrics: Any = None,
        distillation: float = 0.0,
        temperature: float = 3.0,
        **kwargs: Any,
    ) -> None:
        """Configures training. An argument that is not a dict applies to every output.

        Args:
            optimizer, **kwargs: As in `keras.Model.compile`.
            loss: One loss, or a dict with a loss for every output. Defaults to sparse
                categorical crossentropy, whose labels are class indices;
                `"categorical_crossentropy"` takes one-hot labels. Either, given by
                name, is computed from logits for an output that is logits.
            loss_weights: One weight for all heads (default 0.3, the paper's), or a dict
                with a weight for every head. The weight of `main` is 1 unless the dict
                has another. `auxiliary_weights` reads and changes them later.
            metrics: A list for every output, or a dict by output. Defaults to accuracy.
            weighted_metrics: Likewise; they respect `sample_weight`. Defaults to none.
            distillation: The weight with which each head also learns main's softened
                answers, besides its loss on the labels. Defaults to 0.
            temperature: The number that main's and the heads' logits are divided by in
                distillation; see `supervision.losses.Distillation`. Defaults to 3.

        Raises:
            ValueError: If a dict has an unknown output or lacks a required one, a
                weight is not a finite number of at least 0, the temperature not above
                0, or no head can learn from main.
        """
        weights = self._weight_by_output(loss_weights)
        self.distillation = Distillation(self.output, distillation, temperature)
        if not hasattr(self, "_log_directions"):
            self._log_directions = LogDirections(self, MAIN)
        if not hasattr(self, "_loss_weights"):
            self._loss_weights = LossWeights(self.heads)
        for output, variable in self._loss_weights.by_output.items():
            variable.assign(weights[output])
        super().compile(
            optimizer=optimizer,
            loss=self._loss_by_output(loss),
            loss_weights=weights | self._loss_weights.by_output,
            metrics=self._metric_lists("metrics", metrics),
            weighted_metrics=self._metric_lists("weighted_metrics", weighted_metrics),
            **kwargs,
        )

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains as `keras.Model.fit`; classes that `class_weight` leaves out weigh 1.

        Raises:
            ValueError: If `class_weight` names an unknown class, a weight is not a
                finite number of at least 0, or the labels are given by output.
        """
        kwargs = with_every_class(kwargs, self.output[MAIN].shape[-1], x, y)
        return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains on one batch as `keras.Model.train_on_batch`; see `fit`."""
        kwargs = with_every_class(kwargs, self.output[MAIN].shape[-1], x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def save(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Saves to a `.keras` file as `keras.Model.save`; `.h5` is a ValueError."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(f"{filepath}: {_NO_HDF5}")
        super().save(filepath, *args, **kwargs)

    @property
    def auxiliary_weights(self) -> dict[str, keras.Variable]:
        """Each head's loss weight, after `compile`.

        A callback can `assign` to these variables in training; the next step uses the
        new value without another trace.

        Raises:
            ValueError: If the model is not compiled.
        """
        if not self.compiled:
            raise ValueError(
                "The model has no loss weights before compile(): call that first."
            )
        return dict(self._loss_weights.by_output)

    def get_config(self) -> dict:
        config = super().get_config()
        if is_legacy_config(config):
            raise ValueError(_NO_HDF5)
        if self.nesting is not None:
            config = {n: config[n] for n in ("name", "trainable")}
            config["nesting"] = self.nesting.config()
        if self.class_names is not None:
            config["class_names"] = list(self.class_names)
        return config

    @classmethod
    def from_config(
        cls, config: dict, custom_objects: dict | None = None
    ) -> "DeeplySupervised":
        config = dict(config)
        class_names = config.pop("class_names", None)
        if "nesting" in config:
            nesting = Nesting.from_config(config.pop("nesting"), custom_objects)
            model = nesting.build(cls, **config)
        else:
            model = super().from_config(config, custom_objects=custom_objects)
        model.class_names = class_names
        return model

    def get_compile_config(self) -> dict | None:
        if not self.compiled:
            return None
        # Keras can't serialize variables, so their current values are saved.
        config = compile_arguments(self)
        weights = self.auxiliary_weights.items()
        values = {n: float(keras.ops.convert_to_numpy(weight)) for n, weight in weights}
        config["loss_weights"] = config["loss_weights"] | values
        config["distillation"] = self.distillation.weight
        config["temperature"] = self.distillation.temperature
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            # Keras wraps the optimizer under mixed_float16 only. A model loaded under
            # another policy would lose the state of the wrapper.
            config["optimizer"] = self.optimizer
        return keras.saving.serialize_keras_object(config)

    def compile_from_config(self, config: dict) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        y, weight = self._labels_by_output(y), self._weights_of_samples(sample_weight)
        loss = super().compute_loss(x, y, y_pred, weight, training)
        if self.distillation.weight:
            by_output = self._loss_weights.by_output
            loss += self.distillation.total(y_pred, by_output, weight or {})
        return loss

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict:
        y, weight = self._labels_by_output(y), self._weights_of_samples(sample_weight)
        return super().compute_metrics(x, y, y_pred, weight)

    def get_metrics_result(self) -> dict:
        logs = super().get_metrics_result()
        if len(self.output) > 1:
            return logs
        # Keras adds no output's name where there is only one output.
        return {"loss": logs["loss"], "main_loss": logs["loss"]} | {
            f"{MAIN}_{name}": value for name, value in logs.items() if name != "loss"
        }

    def _names_store(self) -> Any:
        """The layer that stores the class names; the model if it has no `Output`."""
        for _, layer in self._output_layers():
            if isinstance(layer, Output):
                return layer
        if not hasattr(self, "_own_names"):
            self._own_names = types.SimpleNamespace(class_names=None)
        return self._own_names

    def _output_layers(self) -> list[tuple[str, keras.Operation]]:
        return [(name, layer_of(tensor)) for name, tensor in self.output.items()]

    def _labels_by_output(self, y):
        check_by_output("labels", y, self.output, self.output)
        if y is None or isinstance(y, dict):
            return y
        return {
            name: layer.own_labels(y) if isinstance(layer, Output) else y
            for name, layer in self._output_layers()
        }

    def _weights_of_samples(self, sample_weight):
        check_by_output("sample_weight", sample_weight, self.output, self.output)
        if sample_weight is None or isinstance(sample_weight, dict):
            return sample_weight
        return dict.fromkeys(self.output, sample_weight)

    def _weight_by_output(self, loss_weights) -> dict[str, float]:
        check_by_output("loss_weights", loss_weights, self.output, self.heads)
        if not isinstance(loss_weights, Mapping):
            weight = 1.0 if loss_weights is None else loss_weights  # as in Keras
            loss_weights = dict.fromkeys(self.heads, weight)
        weights = {MAIN: 1.0, **loss_weights}
        return {name: checked_weight(name, weight) for name, weight in weights.items()}

    def _loss_by_output(self, loss) -> dict:
        check_by_output("loss", loss, self.output, self.output)
        if not isinstance(loss, Mapping):
            loss = {name: own_copy(loss) for name in self.output}
        linear = [n for n, x in self.output.items() if output_activation(x) == "linear"]
        return {n: from_logits(one) if n in linear else one for n, one in loss.items()}

    def _metric_lists(self, argument: str, metrics) -> dict | None:
        if metrics is None:
            return None
        if isinstance(metrics, Mapping):
            check_by_output(argument, metrics, self.output)
            return dict(metrics)
        if not isinstance(metrics, (list, tuple)):
            metrics = [metrics]
        return {name: [own_copy(one) for one in metrics] for name in self.output}
