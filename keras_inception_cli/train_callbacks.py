"""The callbacks that the options of `train` ask for."""

from typing import TYPE_CHECKING, Any

from keras_inception_cli.train_config import TrainConfig

if TYPE_CHECKING:
    import keras

    from keras_inception import DeeplySupervised
    from keras_inception.data import Data
    from keras_inception.training import Devices, RunConfig, RunDirectory

# The settings by which TensorBoard's HParams tab compares runs.
HPARAMS = (
    "recipe",
    "architecture",
    "image_size",
    "width",
    "batch_norm",
    "heads",
    "aux_weight",
    "aux_schedule",
    "head_dropout",
    "head_width",
    "learning_rate",
    "batch_size",
    "epochs",
    "augment",
    "seed",
)


def make_callbacks(
    model: "DeeplySupervised",
    pictures: "Data",
    config: TrainConfig,
    run_config: "RunConfig",
    devices: "Devices",
    directory: "RunDirectory",
) -> list["keras.callbacks.Callback"]:
    """The callbacks that the options ask for."""
    import keras

    import keras_inception as ki
    from keras_inception import data, training
    from keras_inception.defaults import input_size_of

    source, size = pictures.source, input_size_of(model)
    callbacks = [
        *devices.callbacks,
        training.AuxiliarySchedule(
            config.aux_schedule, config.weight_by_output(model.heads)
        ),
        training.TensorBoard(
            directory.tensorboard,
            *data.spread(source, source.validation, 8, size),
            hparams=hparams(run_config.as_json()),
            profile_steps=config.profile,
        ),
    ]
    if config.gradients:
        sample = data.spread(source, source.train, 16, size)
        callbacks.append(ki.GradientFlow(*sample, directory.tensorboard))
    if devices.workers == 1:  # several workers would not stop at the same step

        def stop_if_bad(batch, logs):
            if pictures.bad.too_many:
                model.stop_training = True

        callbacks.append(keras.callbacks.LambdaCallback(on_train_batch_end=stop_if_bad))
    return callbacks


def hparams(config: dict[str, Any]) -> dict[str, Any]:
    """The settings by which TensorBoard's HParams tab compares runs."""
    values = {name: config[name] for name in HPARAMS}
    values["heads"] = " ".join(values["heads"]) or "none"
    for name in ("aux_weight", "aux_schedule"):
        if isinstance(values[name], dict):
            pairs = values[name].items()
            values[name] = ",".join(f"{output}={value}" for output, value in pairs)
    return values
