"""A small training whose figures are the same however many devices share its batches.

A script of its own: TensorFlow and JAX want to know of devices and of other workers
before they compute anything. It prints the history and the figures after 20 steps.

    python train_together.py {one,mirrored,workers} [ADDRESS WORKER]
"""

import contextlib
import json
import sys

STEPS, BATCH = 20, 8


def tensorflow_strategy(how):
    """The strategy, and the data: batches for all the devices together."""
    import tensorflow as tf
    from conftest import small_pictures

    from keras_inception import training

    if how == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        strategy = training.multi_worker_strategy()
    assert strategy.num_replicas_in_sync == 2
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    data = tf.data.Dataset.from_tensor_slices(small_pictures(40)).batch(BATCH)
    return strategy, {"x": data.with_options(options)}


def jax_distribution(how, address, worker):
    """The distribution, and the data: this process's share of each batch."""
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
    keras.distribution.set_distribution(distribution)  # fit asks for it as well
    return distribution, {"x": images, "y": labels, "batch_size": batch}


def train(place, data) -> dict:
    """What 20 steps bring, and an evaluation after them."""
    import keras
    import numpy as np
    from conftest import small_supervised

    random = np.random.default_rng(0)
    with place.scope():
        model = small_supervised(dropout=0.0)  # whose draws would be each device's own
        model.set_weights([random.normal(0, 0.3, w.shape) for w in model.get_weights()])
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss_weights=0.5)
    epochs = STEPS * BATCH // 40
    history = model.fit(**data, epochs=epochs, verbose=0, shuffle=False).history
    after = model.evaluate(**data, verbose=0, return_dict=True)
    return {"history": history, "after": after}


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
        place, data = tensorflow_strategy(how)
    print(json.dumps(train(place, data)))
