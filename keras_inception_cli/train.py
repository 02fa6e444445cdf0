"""Train GoogLeNet with its auxiliary classifiers on pictures.

Everything is written to RUNS/NAME: config.json, history.csv, model.keras (the epoch
with the best val_main_accuracy), latest.keras (where --resume goes on), tensorboard/
and result.json.
"""

import argparse
import contextlib
import dataclasses
import tempfile

from keras_inception_cli import coarse, found, train_options
from keras_inception_cli.common import load_model
from keras_inception_cli.console import quiet_start
from keras_inception_cli.data_options import find_data

add_arguments = train_options.add_arguments

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


def run(options: argparse.Namespace) -> None:
    """Trains and leaves a run directory."""
    with quiet_start():
        import keras
        import tensorflow as tf

        import keras_inception as ki
        from keras_inception import data, training
        from keras_inception.defaults import input_size_of

    train_options.settle(options)
    schedule = train_options.schedule(options)
    with quiet_start():
        devices = training.Devices(options.devices)
    if devices.replicas > 1 and options.accumulate > 1:
        raise ValueError(
            "Keras can't accumulate gradients on several devices: leave out "
            "--accumulate, or train on one. Received: --accumulate "
            f"{options.accumulate} on {devices.replicas} devices"
        )
    source = find_data(options)
    path, run, state = train_options.run_path(options, source.name), None, None
    if options.resume:
        run = training.RunDirectory(path, resume=True)
        devices.check_agreement(run.epochs_done(), "how far the run is")
    keras.utils.set_random_seed(options.seed)
    if not options.jit_compile or keras.backend.backend() != "tensorflow":
        # Keras leaves XLA out where TensorFlow's operations must be deterministic.
        tf.config.experimental.enable_op_determinism()
    with (
        _precision(options.mixed_precision),
        _own_directory(devices) as aside,
        devices.scope(),
    ):
        model, state = (run.checkpoint() if run else None) or (None, None)
        if aside:
            run = training.RunDirectory(aside)
        side = input_size_of(model) if model else _side(options, source)
        pictures = data.load(
            source,
            side,
            options.batch_size,
            seed=options.seed,
            augment=options.augment,
            mirror=options.mirror,
            first_epoch=state["epochs"] if state else 0,
        )
        train, validation = (
            devices.share(dataset, len(split), options.batch_size)
            for dataset, split in (
                (pictures.train, source.train),
                (pictures.validation, source.validation),
            )
        )
        if model is None:
            model = _build(options, source, side)
            _compile(model, options, len(train))
        fall = training.AuxiliarySchedule(
            schedule, found.aux_weights(options, model.heads)
        )
        run = run or training.RunDirectory(path, overwrite=options.overwrite)
        print(
            f"{source.name}: {len(source.train)} pictures to learn from, "
            f"{len(source.validation)} held out, {len(source.class_names)} classes, "
            f"augmentation: {pictures.augmentation}\n"
            f"{model.name} at {side}x{side}: {model.count_params():,} parameters, "
            f"auxiliary heads: {coarse.listed(model) or 'none'}" + _on(devices)
        )
        if state:
            print(f"going on after epoch {state['epochs']} of {options.epochs}")
        config = train_options.as_config(options) | {
            "architecture": model.name,
            "image_size": side,
            "augment": pictures.augmentation,
            "class_names": source.class_names,
            "devices": devices.replicas,
            "workers": devices.workers,
            **_network_of_the_file(options, model),
            "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
        }
        callbacks = [
            *devices.callbacks,
            fall,
            training.TensorBoard(
                run.tensorboard,
                *data.sample(source, source.validation, 8, side),
                hparams=_hparams(config),
                profile_steps=options.profile,
            ),
        ]
        if options.gradients:
            some = data.sample(source, source.train, 16, side)
            callbacks.append(ki.GradientFlow(*some, run.tensorboard))
        if devices.workers == 1:  # else not all would notice at the same step
            callbacks.append(_stop_if_bad(model, pictures.bad))
        result = training.train(
            model,
            train,
            validation,
            run,
            epochs=options.epochs,
            config=config,
            callbacks=callbacks,
            class_weight=data.balanced_class_weights(source.train.labels)
            if options.class_weights
            else None,
            report=lambda: _bad_pictures(pictures.bad),
            state=state,
        )
    if pictures.bad:
        print(f"skipped {len(pictures.bad)} bad pictures: {pictures.bad.listed()}")
    print(
        f"best: {training.MONITOR} {result[training.MONITOR]:.4f} in epoch "
        f"{result['best_epoch']}, after {result['seconds']:.0f} s\n"
        + (f"wrote {run.model}" if devices.is_chief else "the chief wrote the run")
    )


@contextlib.contextmanager
def _own_directory(devices):
    """A directory for what a worker that is not the chief writes, as all of them do.

    Saving is a matter of all the workers; what is kept is the chief's.
    """
    if devices.is_chief:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        yield directory


def _on(devices) -> str:
    """What is told of the devices, if there are several."""
    if devices.replicas == 1:
        return ""
    of = f"; worker {devices.worker} of {devices.workers}" * (devices.workers > 1)
    return f"\non {devices.replicas} devices{of}"


def _side(options, source) -> int:
    """The side in pixels that a new model takes."""
    from keras_inception.defaults import default_input_size, input_size_of

    if options.image_size:
        return options.image_size
    if options.weights and options.weights != "imagenet":
        return input_size_of(load_model(options.weights))
    return default_input_size(_architecture(options, source), source.picture_size)


def _architecture(options, source):
    import keras_inception as ki
    from keras_inception.defaults import default_architecture

    if options.weights:
        return ki.GOOGLENET  # stands for the file's own
    if options.architecture:
        return ki.ARCHITECTURES[options.architecture]
    return default_architecture(source.picture_size)


def _build(options, source, side: int):
    import keras_inception as ki
    from keras_inception import optimizers

    batch_norm = options.batch_norm and not options.weights
    model = ki.GoogLeNet(
        (side, side, 3),
        classes=len(source.class_names),
        auxiliary=coarse.heads(options, source.class_names, batch_norm),
        architecture=_architecture(options, source),
        width=options.width,
        batch_norm=batch_norm,
        weights=options.weights,
    )
    if options.freeze:
        optimizers.freeze_through(model, options.freeze)
    model.class_names = source.class_names
    return model


def _compile(model, options, steps_per_epoch: int) -> None:
    from keras_inception import optimizers, training

    recipe = dataclasses.replace(
        training.RECIPES[options.recipe], learning_rate=options.learning_rate
    )
    keras_options = {}
    if options.clip_norm is not None:
        keras_options["global_clipnorm"] = options.clip_norm
    if options.accumulate > 1:
        keras_options["gradient_accumulation_steps"] = options.accumulate
    factors = optimizers.layer_decay_factors(model, options.layer_decay)
    model.compile(
        training.optimizer(
            recipe,
            options.epochs,
            steps_per_epoch,
            factors=factors if options.layer_decay != 1 else None,
            **keras_options,
        ),
        loss_weights=found.aux_weights(options, model.heads),
        jit_compile="auto" if options.jit_compile is None else options.jit_compile,
    )


@contextlib.contextmanager
def _precision(half: str | None):
    """Computes in half precision within the block; variables stay float32."""
    import keras

    before = keras.config.dtype_policy()
    if half:
        keras.config.set_dtype_policy(f"mixed_{half}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _stop_if_bad(model, bad):
    import keras

    def stop_if_bad(batch, logs):
        if bad.too_many:
            model.stop_training = True

    return keras.callbacks.LambdaCallback(on_train_batch_end=stop_if_bad)


def _bad_pictures(bad) -> dict:
    bad.check()
    return {"bad_pictures": bad.report()}


def _network_of_the_file(options, model) -> dict:
    """What `--weights` decided, where the options say otherwise."""
    import keras

    if not options.weights:
        return {}
    normalised = (
        isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers
    )
    return {"batch_norm": any(normalised), "width": None}


def _hparams(config: dict) -> dict:
    """The settings that runs are compared by in TensorBoard."""
    values = {name: config[name] for name in HPARAMS}
    for name in ("heads", "aux_schedule"):
        values[name] = " ".join(values[name]) or "none"
    if isinstance(values["aux_weight"], dict):
        pairs = values["aux_weight"].items()
        values["aux_weight"] = ",".join(f"{head}={weight:g}" for head, weight in pairs)
    return values
