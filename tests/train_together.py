"""Trains a small model on one or more devices; the figures must not depend on them.

A script, since TensorFlow and JAX must know all devices and workers before they compute
anything. Prints the history and the figures after 20 steps.

    python train_together.py {one,mirrored,workers} [ADDRESS WORKER]
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

STEPS, BATCH = 20, 8


def tensorflow_devices(how):
    """The devices, and batches for all of them together."""
    import tensorflow as tf
    from conftest import small_pictures

    from keras_inception import training

    if how == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
    devices = training.Devices(2 if how == "mirrored" else None)
    assert devices.replicas == 2
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    data = tf.data.Dataset.from_tensor_slices(small_pictures(40)).batch(BATCH)
    return devices, {"x": data.with_options(options)}


def jax_distribution(how, address, worker):
    """The distribution, and this process's part of each batch."""
    import keras
    from conftest import small_pictures

    images, labels = small_pictures(40)
    batch = BATCH
    if how == "workers":
        keras.distribution.initialize(address, 2, worker)
        batch //= 2
        mine = (slice(None), slice(worker * batch, (worker + 1) * batch))
        images = images.reshape(-1, BATCH, *images.shape[1:])[mine]
        labels = labels.reshape(-1, BATCH)[mine].ravel()
        images = images.reshape(-1, *images.shape[2:])
    devices = keras.distribution.list_devices()
    assert len(devices) == 2, devices
    distribution = keras.distribution.DataParallel(
        devices=devices, auto_shard_dataset=False
    )
    keras.distribution.set_distribution(distribution)  # fit reads it too
    return distribution, {"x": images, "y": labels, "batch_size": batch}


def train(place, data) -> dict:
    """The history of 20 steps, and an evaluation after them."""
    import keras
    import numpy as np
    from conftest import small_supervised

    random = np.random.default_rng(0)
    with place.scope():
        model = small_supervised(dropout=0.0)  # every device would draw its own
        model.set_weights([random.normal(0, 0.3, w.shape) for w in model.get_weights()])
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss_weights=0.5)
    epochs = STEPS * BATCH // 40
    history = model.fit(**data, epochs=epochs, verbose=0, shuffle=False).history
    after = model.evaluate(**data, verbose=0, return_dict=True)
    return {"history": history, "after": after}


def normalize_and_resume(devices) -> dict:
    """The spread of batch normalization's statistics over devices; exact resume."""
    import keras
    import numpy as np
    import tensorflow as tf
    from conftest import small_pictures

    data = tf.data.Dataset.from_tensor_slices(small_pictures(37)).batch(BATCH)
    data = devices.share(data, 37, BATCH)

    def fit(model, **epochs):
        callbacks = devices.callbacks
        model.fit(data, validation_data=data, verbose=0, callbacks=callbacks, **epochs)

    with devices.scope(), tempfile.TemporaryDirectory() as directory:
        images = keras.Input((8, 8, 3))
        x = keras.layers.BatchNormalization()(images)
        x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x))
        model = keras.Model(images, x)
        model.compile("sgd", "sparse_categorical_crossentropy")
        fit(model, epochs=1)
        model.save(Path(directory, "kept.keras"))
        again = keras.saving.load_model(Path(directory, "kept.keras"))
        for one in (model, again):
            fit(one, initial_epoch=1, epochs=2)
    strategy = again.distribute_strategy
    apart = [
        float(
            np.ptp([v.numpy() for v in strategy.experimental_local_results(s)], 0).max()
        )
        for s in (variable.value for variable in model.non_trainable_variables)
    ]
    pairs = zip(model.get_weights(), again.get_weights(), strict=True)
    return {"apart": apart, "resumed": all((a == b).all() for a, b in pairs)}


if __name__ == "__main__":
    import keras

    how, address, worker = (*sys.argv[1:], None, None)[:3]
    if how == "one":
        from conftest import small_pictures

        images, labels = small_pictures(40)
        place = type("Nowhere", (), {"scope": contextlib.nullcontext})
        data = {"x": images, "y": labels, "batch_size": BATCH}
    elif keras.backend.backend() == "jax":
        place, data = jax_distribution(how, address, int(worker or 0))
    else:
        place, data = tensorflow_devices(how)
    found = train(place, data)
    if how == "mirrored" and keras.backend.backend() == "tensorflow":
        found["statistics"] = normalize_and_resume(place)
    print(json.dumps(found))
