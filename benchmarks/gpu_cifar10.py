"""Accuracy on CIFAR-10 after a few minutes on one GPU, through Keras's `fit` on JAX.

The pictures lie on the card; each batch is cropped, mirrored, partly covered, mixed and
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
MIXED = 0.5  # part of the pictures that get a rectangle of another
UNMIXED = 0.1  # part of the epochs, the last ones, in which none do
EVALUATION_SECONDS = 30  # kept for the answers on the test pictures


def measure_accuracy(emit: Callable, options: argparse.Namespace) -> None:
    """Trains for `options.seconds` of everything, and writes a row for each epoch.

    Args:
        emit: Writes a row.
        options: `cifar10`, `image_size`, `seconds`, `epochs`, `save`, `smoke`, and
            `began`: when the process started, on `time.perf_counter`.
    """
    began = options.began
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    stride = 500 if options.smoke else 1
    train, test, class_names = read_zip(options.cifar10, stride)
    batch = 8 if options.smoke else BATCH
    read_s = time.perf_counter() - began
    size, width = options.image_size, 0.125 if options.smoke else 1.0
    model = built_at_once(compiled_model, size, width)
    built_s = time.perf_counter() - began
    pictures = Pictures(*train, batch, size, cover=COVERED, mixed=MIXED)
    schedule = Schedule(options, pictures)

    def write(epoch: int, logs: dict) -> None:
        seconds = time.perf_counter() - began
        rate = float(model.optimizer.learning_rate)
        emit(way="epoch", epoch=epoch + 1, seconds=seconds, rate=rate, **logs)

    model.fit(
        pictures,
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
    if options.save:
        keras.config.set_dtype_policy("float32")  # for a CPU
        saved = compiled_model(size, width)
        saved.class_names = class_names
        saved.set_weights(model.get_weights())
        saved.save(options.save)


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
    """Sets each epoch's learning rate: a warm-up, then a cosine to 0; ends the mixing.

    Without `epochs`, their number is what fits into `seconds`, judged by the second
    epoch, which compiles nothing.
    """

    def __init__(self, options: argparse.Namespace, pictures: "Pictures"):
        super().__init__()
        self.pictures = pictures
        self.began, self.seconds = options.began, options.seconds
        self.epochs: int | None = options.epochs
        self.ends: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        rate = PEAK_RATE * min(1.0, (epoch + 0.5) / WARM_UP)
        if self.epochs and epoch >= WARM_UP:
            part = (epoch - WARM_UP + 0.5) / (self.epochs - WARM_UP)
            rate = PEAK_RATE * (1 + math.cos(math.pi * part)) / 2
        self.model.optimizer.learning_rate = rate
        if self.epochs and epoch >= (1 - UNMIXED) * self.epochs:
            self.pictures.mixed = 0.0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.ends.append(time.perf_counter())
        if epoch == 1 and not self.epochs:
            left = self.seconds - EVALUATION_SECONDS - (self.ends[1] - self.began)
            self.epochs = 2 + max(2, int(left / (self.ends[1] - self.ends[0])))
        if epoch + 1 == self.epochs:
            self.model.stop_training = True


class Pictures(keras.utils.PyDataset):
    """Batches on the card, in another order and changed anew in each epoch.

    Args:
        images, labels: Pixels uint8, class indices.
        batch: Pictures in a batch; those left over wait for another epoch.
        size: Side of the enlarged pictures.
        cover: Side of the covered square, in pixels of the originals; 0: none.
        mixed: Part of the pictures that get a rectangle of another, 0 to 1.
        seed: Of the order and of all changes.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch: int,
        size: int,
        cover: int = 0,
        mixed: float = 0.0,
        seed: int = 0,
    ):
        super().__init__()
        self.images, self.labels = jax.device_put((images, labels))
        self.batch, self.size, self.cover, self.mixed = batch, size, cover, mixed
        self.generator = np.random.default_rng(seed)
        self.key = jax.random.key(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.images) // self.batch

    def __getitem__(self, index: int) -> tuple[jax.Array, jax.Array]:
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        key = jax.random.fold_in(self.key, self.generator.integers(2**31))
        data = self.images, self.labels, chosen
        return augmented(*data, key, self.mixed, self.size, self.cover)

    def on_epoch_end(self) -> None:
        self.order = self.generator.permutation(len(self.images)).astype("int32")


@functools.partial(jax.jit, static_argnums=(5, 6))
def augmented(images, labels, chosen, key, mixed, size: int, cover: int):
    """Chosen pictures changed, mixed and enlarged; weights of the classes."""
    changes, mixing = jax.random.split(key)
    keys = jax.random.split(changes, len(chosen))
    changed = jax.vmap(functools.partial(change, cover=cover))(images[chosen], keys)
    weights = jax.nn.one_hot(labels[chosen], CLASSES)
    changed, weights = mix(changed, weights, mixing, mixed)
    return enlarge(changed, size), weights


def change(image, key, cover: int):
    """Shifts a picture, mirrors half of them, and covers a square with gray."""
    side = image.shape[0]
    shift, mirror, place = jax.random.split(key, 3)
    border = ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
    padded = jnp.pad(image, border, mode="reflect")
    top, left = jax.random.randint(shift, (2,), 0, 2 * SHIFT + 1)
    image = lax.dynamic_slice(padded, (top, left, 0), image.shape)
    image = jnp.where(jax.random.bernoulli(mirror), image[:, ::-1], image)
    middle = jax.random.randint(place, (2, 1), 0, side)
    row, column = abs(jnp.arange(side) + 0.5 - middle) < cover / 2
    covered = row[:, None] & column
    return jnp.where(covered[..., None], jnp.uint8(127), image)


def mix(images, weights, key, part):
    """Puts rectangles of other pictures into some; classes weigh by their areas.

    As in CutMix (Yun et al., arXiv 1905.04899), with a rectangle for each picture.
    """
    count, side = images.shape[:2]
    drawn, area, place = jax.random.split(key, 3)
    length = side * jnp.sqrt(jax.random.uniform(area, (count, 1, 1)))
    middle = side * jax.random.uniform(place, (count, 2, 1))
    rows, columns = jnp.moveaxis(
        abs(jnp.arange(side) + 0.5 - middle) < length / 2, 1, 0
    )
    drawn = jax.random.bernoulli(drawn, part, (count, 1, 1))
    replaced = rows[:, :, None] & columns[:, None] & drawn
    share = replaced.mean((1, 2))[:, None]
    mixed = jnp.where(replaced[..., None], images[::-1], images)
    return mixed, (1 - share) * weights + share * weights[::-1]


@functools.partial(jax.jit, static_argnums=1)
def enlarge(images, size: int):
    """Resizes pictures to `(size, size)`, bilinear, as float32."""
    shape = (len(images), size, size, 3)
    return jax.image.resize(images.astype("float32"), shape, "bilinear")
