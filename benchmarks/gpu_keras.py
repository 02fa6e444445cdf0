"""The parts of `benchmarks.gpu` on Keras with JAX: first step, step, weights, card."""

import argparse
import collections
import functools
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

Emit = Callable[..., None]  # writes a row, given as keyword arguments
ROUNDS = 10


class Task(NamedTuple):
    """A network and its batches; `steps` are those of a round."""

    name: str
    architecture: str
    image_size: int
    classes: int
    batch: int
    batch_norm: bool
    steps: int


TASKS = {
    "small": Task("small, 32 pixels", "googlenet_small", 32, 10, 512, True, 20),
    "paper": Task("paper, 224 pixels", "googlenet", 224, 1000, 256, False, 4),
    "same": Task("same, 224 pixels", "googlenet_torchvision", 224, 1000, 256, True, 4),
}


def task_of(name: str, options: argparse.Namespace) -> Task:
    return TASKS[name]._replace(batch=8, steps=1) if options.smoke else TASKS[name]


def measure_first_step(emit: Emit, options: argparse.Namespace, task: str):
    """Builds and compiles a network, trains one step, writes the row."""
    import jax

    import keras_inception as ki  # noqa: F401 counts as an import

    compiled: list[float] = []

    def count(event: str, seconds: float, **_) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(count)
    jax.devices()  # starts the card
    imported = time.perf_counter()
    chosen = task_of(task, options)
    model = built_at_once(compiled_model, chosen)
    built = time.perf_counter()
    images, labels = random_batch(chosen)
    model.fit(images, labels, batch_size=chosen.batch, verbose=0)
    ended = time.perf_counter()
    emit(
        way="first step",
        network=chosen.name,
        seconds=ended - options.began,
        import_s=imported - options.began,
        build_s=built - imported,
        fit_s=ended - built,
        programs=len(compiled),
        longest_compilation_s=max(compiled),
    )
    return model


def measure_steps(emit: Emit, options: argparse.Namespace, task: str) -> None:
    """Writes the rows of the first step, of `fit`, and of the step alone."""
    import jax

    model = measure_first_step(emit, options, task)
    import keras_inception as ki

    chosen = task_of(task, options)
    images, labels = random_batch(chosen, batches=chosen.steps)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        model.fit(images, labels, batch_size=chosen.batch, verbose=0)
        seconds.append((time.perf_counter() - began) / chosen.steps)
    operations = 6 * sum(ki.multiply_adds(model).values()) * chosen.batch
    emit(**speed("fit", chosen, seconds, operations))

    # The state and the function of `fit`, so that nothing is compiled anew.
    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    batch = jax.device_put((images[: chosen.batch], labels[: chosen.batch]))
    batches = itertools.repeat(batch)

    def step():
        nonlocal state
        logs, state = model.train_function(state, batches)
        return logs

    seconds = rounds(step, jax.block_until_ready, chosen.steps)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    emit(**speed("step", chosen, seconds, operations), peak_gb=peak / 1e9)
    if options.profile:
        write_kernels(options.profile, lambda: jax.block_until_ready(step()))


def measure_matmul(emit: Emit, options: argparse.Namespace) -> None:
    """Writes the row of a large bfloat16 matrix product: what the card can do."""
    import jax

    side = 256 if options.smoke else 8192
    a, b = jax.random.normal(jax.random.key(0), (2, side, side), "bfloat16")
    product = jax.jit(jax.numpy.matmul)
    seconds = rounds(lambda: product(a, b), jax.block_until_ready, 20)
    median = statistics.median(seconds)
    emit(
        way=f"matrix product, {side}", ms=1e3 * median, tflops=2e-12 * side**3 / median
    )


def measure_weights(emit: Emit, options: argparse.Namespace) -> None:
    """Writes how long the initial weights take, in one program and as usual."""
    import jax

    jax.devices()  # starts the card
    for way, build in (
        ("weights, at once", functools.partial(built_at_once, compiled_model)),
        ("weights, one by one", compiled_model),
    ):
        began = time.perf_counter()
        task = task_of("small", options)
        model = build(task)
        model.optimizer.build(model.trainable_variables)
        emit(way=way, network=task.name, seconds=time.perf_counter() - began)


def compiled_model(task: Task):
    """Builds and compiles the task's network, with heads, in mixed bfloat16."""
    import keras

    import keras_inception as ki

    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    model = ki.GoogLeNet(
        (task.image_size, task.image_size, 3),
        classes=task.classes,
        architecture=ki.ARCHITECTURES[task.architecture],
        batch_norm=task.batch_norm,
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    return model


def built_at_once(build: Callable, *arguments):
    """Calls `build`, with the initial weights drawn by a single program.

    Built as usual, each weight is drawn by programs of its own, which JAX compiles one
    after another: about 230 for GoogLeNet and its optimizer.

    Args:
        build: Builds and compiles a model.
        *arguments: Its arguments.
    """
    import jax

    models = []

    def variables() -> list:
        return [*models[0].variables, *models[0].optimizer.variables]

    @jax.jit
    def draw():
        models.append(build(*arguments))
        models[0].optimizer.build(models[0].trainable_variables)
        return [variable.value for variable in variables()]

    values = draw()
    for variable, value in zip(variables(), values, strict=True):
        variable.assign(value)
    return models[0]


def random_batch(task: Task, batches: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures, uint8 as decoders give them, and labels."""
    generator = np.random.default_rng(0)
    shape = (batches * task.batch, task.image_size, task.image_size, 3)
    images = generator.integers(0, 256, shape, "uint8")
    return images, generator.integers(0, task.classes, len(images), "int32")


def rounds(call: Callable, wait: Callable, calls: int) -> list[float]:
    """Seconds a call in each of the rounds, after one round that does not count."""
    seconds = []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        for _ in range(calls):
            result = call()
        wait(result)
        seconds.append((time.perf_counter() - began) / calls)
    return seconds[1:]


def speed(way: str, task: Task, seconds: list[float], operations: float) -> dict:
    """The columns of a speed: median and quartiles of the rounds."""
    low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return {
        "way": way,
        "network": task.name,
        "batch": task.batch,
        "ms": 1e3 * median,
        "lower_quartile_ms": 1e3 * low,
        "upper_quartile_ms": 1e3 * high,
        "pictures_per_second": task.batch / median,
        "tflops": 1e-12 * operations / median,
    }


def write_kernels(path: str, step: Callable, steps: int = 10) -> None:
    """Profiles `steps` calls; writes the card's kernels, milliseconds a step, as JSON.

    The longest 150 of each stream.
    """
    import jax

    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(steps):
                step()
        file = next(Path(directory).rglob("*.xplane.pb"))
        planes = jax.profiler.ProfileData.from_file(str(file)).planes
        totals = {
            f"{plane.name} {line.name}": _milliseconds(line)
            for plane in planes
            if "GPU" in plane.name
            for line in plane.lines
        }
    longest = {
        stream: {kernel: ms / steps for kernel, ms in times.most_common(150)}
        for stream, times in totals.items()
    }
    Path(path).write_text(json.dumps(longest, indent=0))


def _milliseconds(line) -> collections.Counter:
    times: collections.Counter = collections.Counter()
    for event in line.events:
        times[event.name] += event.duration_ns / 1e6
    return times
