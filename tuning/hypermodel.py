"""A network with the heads, weights and schedule of a trial."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner

import keras_inception as ki
from keras_inception import training
from tuning.settings import Setting, setting_of
from tuning.space import Space


class HeadsHyperModel(keras_tuner.HyperModel):
    """A network whose heads are hyperparameters, for any KerasTuner tuner.

    It is a GoogLeNet of this architecture and width, or the classifier that `network`
    returns, anew for each trial. Trunk, recipe and pictures are the same in every
    trial. Use the objective `keras_tuner.Objective("val_main_accuracy", "max")`: the
    total loss is smallest when the heads weigh nothing.

    The recipe's schedule of the learning rate needs `steps_per_epoch`. The setting of a
    trial replaces its head weights and their schedule.

    Example:
    >>> hypermodel = HeadsHyperModel(Space(("inception_4a", "inception_4d")), 10, 32,
    ...     ki.GOOGLENET_SMALL, width=0.125, steps_per_epoch=45)
    >>> hp = keras_tuner.HyperParameters()
    >>> hypermodel.declare_hyperparameters(hp)
    >>> model = hypermodel.build(hp)  # the defaults are the paper's
    >>> {name: float(weight) for name, weight in model.auxiliary_weights.items()}
    {'aux_4a': 0.30000001192092896, 'aux_4d': 0.30000001192092896}
    """

    def __init__(
        self,
        space: Space,
        classes: int,
        image_size: int,
        architecture: ki.Architecture = ki.GOOGLENET,
        *,
        steps_per_epoch: int,
        width: float = 1.0,
        network: Callable[[], keras.Model] | None = None,
        recipe: training.Recipe = training.RECIPES["small"],
        epochs: int | None = None,
    ):
        super().__init__(name="heads")
        self.space = space
        self.classes, self.image_size = classes, image_size
        self.architecture, self.width, self.network = architecture, width, network
        self.recipe, self.epochs = recipe, epochs or recipe.epochs
        self.steps_per_epoch = steps_per_epoch

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Declares the space."""
        self.space.declare(hp)

    def build(self, hp: keras_tuner.HyperParameters) -> ki.DeeplySupervised:
        """Builds the compiled model of a trial."""
        self.space.declare(hp)
        return self.model(setting_of(hp.values), self.epochs)

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: ki.DeeplySupervised,
        *args: Any,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        epochs: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Calls `model.fit`, with the schedule of the heads' weights."""
        return model.fit(
            *args,
            callbacks=[*callbacks, self.schedule(setting_of(hp.values))],
            epochs=epochs or self.epochs,
            **kwargs,
        )

    def model(self, setting: Setting, epochs: int) -> ki.DeeplySupervised:
        """Builds the compiled model of a setting, for a training of `epochs` epochs."""
        recipe, size = self.recipe, self.image_size
        if self.network is not None:
            model = ki.attach_auxiliary(self.network(), setting.heads)
        else:
            model = ki.GoogLeNet(
                (size, size, 3),
                self.classes,
                setting.heads,
                self.architecture,
                width=self.width,
                batch_norm=recipe.batch_norm,
            )
        if setting.learning_rate is not None:
            recipe = dataclasses.replace(recipe, learning_rate=setting.learning_rate)
        model.compile(
            training.optimizer(recipe, epochs, self.steps_per_epoch),
            loss_weights=setting.weight_by_output,
        )
        return model

    def schedule(self, setting: Setting) -> keras.callbacks.Callback:
        """Returns the callback that changes the heads' weights during training."""
        return training.AuxiliarySchedule(setting.schedule, setting.weight_by_output)
