"""Accuracy on CIFAR-10 after a few minutes on one GPU, through Keras's `fit` on JAX.

The pictures lie on the card; each batch is cropped, mirrored, partly covered and
enlarged by one compiled function. The network and its heads are those of the library.
"""

import argparse
import functools
import math
import time
from collections.abc import Callable

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp

import keras_inception as ki
from benchmarks.gpu_keras import built_at_once
from benchmarks.zipped_pictures import read_zip

CLASSES, BATCH = 10, 512
PEAK_RATE, MOMENTUM, DECAY = 0.4, 0.9, 5e-3  # Keras decays after the momentum
WARM_UP = 3  # epochs
SHIFT, COVERED = 4, 10  # pixels of the original 32
EVALUATION_SECONDS = 30  # kept for the answers on the test pictures


def measure_accuracy(emit: Callable, options: argparse.Namespace) -> None:
    """Trains for `options.seconds` of everything, and writes a row for each epoch.

    Args:
        emit: Writes a row.
        options: `cifar10`, `image_size`, `seconds`, `epochs`, `smoke`, and `began`:
            when the process started, on `time.perf_counter`.
    """
    began = options.began
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    stride = 500 if options.smoke else 1
    train, test, _ = read_zip(options.cifar10, stride)
    batch = 8 if options.smoke else BATCH
    read_s = time.perf_counter() - began
    size, width = options.image_size, 0.125 if options.smoke else 1.0
    model = built_at_once(compiled_model, size, width)
    built_s = time.perf_counter() - began
    schedule = Schedule(options)

    def write(epoch: int, logs: dict) -> None:
        seconds = time.perf_counter() - began
        rate = float(model.optimizer.learning_rate)
        emit(way="epoch", epoch=epoch + 1, seconds=seconds, rate=rate, **logs)

    model.fit(
        Pictures(*train, batch, size),
        epochs=options.epochs or 1000,  # `schedule` ends the training
        verbose=0,
        callbacks=[schedule, keras.callbacks.LambdaCallback(on_epoch_end=write)],
    )
    trained_s = time.perf_counter() - began
    images, labels = test
    enlarged = np.asarray(enlarge(jnp.asarray(images), size))
    plain = model.predict(enlarged, batch_size=500, verbose=0)["main"]
    mirrored = model.predict(enlarged[:, :, ::-1], batch_size=500, verbose=0)["main"]
    emit(
        way="test",
        network=f"small, {size} pixels",
        accuracy=float(np.mean(plain.argmax(-1) == labels)),
        mirrored_accuracy=float(np.mean((plain + mirrored).argmax(-1) == labels)),
        epochs=schedule.epochs,
        train=len(train[0]),
        test=len(labels),
        seconds=time.perf_counter() - began,
        read_s=read_s,
        build_s=built_s - read_s,
        first_epoch_s=schedule.ends[0] - built_s - began,
        epoch_s=schedule.ends[1] - schedule.ends[0],
        trained_s=trained_s,
    )


def compiled_model(image_size: int, width: float) -> ki.DeeplySupervised:
    """Builds the network with heads, and compiles it for one-hot labels."""
    model = ki.GoogLeNet(
        (image_size, image_size, 3),
        classes=CLASSES,
        architecture=ki.GOOGLENET_SMALL,
        width=width,
        batch_norm=True,
    )
    optimizer = keras.optimizers.SGD(
        PEAK_RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    smoothed = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizer, loss=smoothed)
    return model


class Schedule(keras.callbacks.Callback):
    """Sets each epoch's learning rate: a warm-up, then a cosine to 0.

    Without `epochs`, their number is what fits into `seconds`, judged by the second
    epoch, which compiles nothing.
    """

    def __init__(self, options: argparse.Namespace):
        super().__init__()
        self.began, self.seconds = options.began, options.seconds
        self.epochs: int | None = options.epochs
        self.ends: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        rate = PEAK_RATE * min(1.0, (epoch + 0.5) / WARM_UP)
        if self.epochs and epoch >= WARM_UP:
            part = (epoch - WARM_UP + 0.5) / (self.epochs - WARM_UP)
            rate = PEAK_RATE * (1 + math.cos(math.pi * part)) / 2
        self.model.optimizer.learning_rate = rate

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.ends.append(time.perf_counter())
        if epoch == 1 and not self.epochs:
            left = self.seconds - EVALUATION_SECONDS - (self.ends[1] - self.began)
            self.epochs = 2 + max(2, int(left / (self.ends[1] - self.ends[0])))
        if epoch + 1 == self.epochs:
            self.model.stop_training = True


class Pictures(keras.utils.PyDataset):
    """Batches on the card, in another order and changed anew in each epoch."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, batch: int, size: int):
        super().__init__()
        self.images, self.labels = jax.device_put((images, labels))
        self.batch, self.size = batch, size
        self.generator = np.random.default_rng(0)
        self.key = jax.random.key(0)
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.images) // self.batch

    def __getitem__(self, index: int) -> tuple[jax.Array, jax.Array]:
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        number = self.generator.integers(2**31)
        return augmented(self.images, self.labels, chosen, self.key, number, self.size)

    def on_epoch_end(self) -> None:
        self.order = self.generator.permutation(len(self.images)).astype("int32")


@functools.partial(jax.jit, static_argnums=5)
def augmented(images, labels, chosen, key, number, size: int):
    """Chosen pictures shifted, mirrored, partly covered, enlarged; one-hot labels."""
    keys = jax.random.split(jax.random.fold_in(key, number), len(chosen))
    changed = jax.vmap(change)(images[chosen], keys)
    return enlarge(changed, size), jax.nn.one_hot(labels[chosen], CLASSES)


def change(image, key):
    """Shifts a picture, mirrors half of them, and covers a square with gray."""
    side = image.shape[0]
    shift, mirror, cover = jax.random.split(key, 3)
    border = ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
    padded = jnp.pad(image, border, mode="reflect")
    top, left = jax.random.randint(shift, (2,), 0, 2 * SHIFT + 1)
    image = lax.dynamic_slice(padded, (top, left, 0), image.shape)
    image = jnp.where(jax.random.bernoulli(mirror), image[:, ::-1], image)
    middle = jax.random.randint(cover, (2, 1), 0, side)
    row, column = abs(jnp.arange(side) + 0.5 - middle) < COVERED / 2
    covered = row[:, None] & column
    return jnp.where(covered[..., None], jnp.uint8(127), image)


@functools.partial(jax.jit, static_argnums=1)
def enlarge(images, size: int):
    """Resizes pictures to `(size, size)`, bilinear, as float32."""
    shape = (len(images), size, size, 3)
    return jax.image.resize(images.astype("float32"), shape, "bilinear")
