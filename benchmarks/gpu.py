"""Training on one GPU: the first step, the step, accuracy on CIFAR-10, and PyTorch.

    python -m benchmarks.gpu --cifar10 cifar10.zip

Keras runs on JAX, in bfloat16; neither TensorFlow nor a second GPU is needed. Each part
runs in its own process with a time limit, and appends its rows to a file of JSON lines
as they come; at the end all rows go to benchmarks/results/gpu.csv. `--only` chooses
parts, `--smoke` tries everything with tiny sizes, on a CPU too.

`first step` is the time from the start of a process to the end of its first training
step: imports, weights, compilation. `again` is the same in a second process, with what
the first one compiled. `fit` trains from arrays in the host's memory; `step` is the
compiled training step alone, on a batch that is on the card. A step's operations are
six times the network's multiply-adds. `torch` steps are channels-last, on a batch that
is on the card.
"""

import time

BEGAN = time.perf_counter()

import argparse  # noqa: E402
import datetime  # noqa: E402
import functools  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import NamedTuple  # noqa: E402

import numpy as np  # noqa: E402

Emit = Callable[..., None]  # writes a row, given as keyword arguments


class Task(NamedTuple):
    """A network and its batches."""

    name: str
    architecture: str
    image_size: int
    classes: int
    batch: int
    batch_norm: bool
    steps: int  # in each of the rounds


SMALL = Task("small, 32 pixels", "googlenet_small", 32, 10, 512, True, 20)
PAPER = Task("paper, 224 pixels", "googlenet", 224, 1000, 256, False, 4)
SAME = Task("same, 224 pixels", "googlenet_torchvision", 224, 1000, 256, True, 4)
ROUNDS = 10


class Part(NamedTuple):
    """A part of the benchmark: what runs, for how many seconds at most, and how."""

    run: Callable[[Emit, argparse.Namespace], None]
    seconds: float
    environment: dict[str, str]


def measure_first_step(emit: Emit, options: argparse.Namespace, task: Task):
    """Builds and compiles a network, trains one step, and writes the row."""
    import jax

    import keras_inception as ki  # noqa: F401 counts as an import

    compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: (
            compiled.append(seconds)
            if event.endswith("backend_compile_duration")
            else 0
        )
    )
    jax.devices()  # starts the card
    imported = time.perf_counter()
    model = built_at_once(compiled_model, task)
    built, programs = time.perf_counter(), len(compiled)
    images, labels = random_batch(task)
    model.fit(images, labels, batch_size=task.batch, verbose=0)
    ended = time.perf_counter()
    emit(
        way="first step",
        network=task.name,
        seconds=ended - BEGAN,
        import_s=imported - BEGAN,
        build_s=built - imported,
        fit_s=ended - built,
        programs=len(compiled),
        programs_of_build=programs,
        longest_compilation_s=max(compiled),
        flags=os.environ.get("XLA_FLAGS", ""),
    )
    return model


def measure_keras(
    emit: Emit, options: argparse.Namespace, task: Task, first_only: bool = False
) -> None:
    """Writes the rows of the first step, of `fit`, and of the step alone."""
    import jax

    model = measure_first_step(emit, options, task)
    if first_only:
        return
    import keras_inception as ki

    images, labels = random_batch(task, batches=task.steps)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        model.fit(images, labels, batch_size=task.batch, verbose=0)
        seconds.append((time.perf_counter() - began) / task.steps)
    operations = 6 * sum(ki.multiply_adds(model).values()) * task.batch
    emit(**speed("fit", task, seconds, operations))

    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    batch = jax.device_put((images[: task.batch], labels[: task.batch]))
    batches = itertools.repeat(batch)

    def step():
        nonlocal state
        logs, state = model.train_function(state, batches)
        return logs

    seconds = rounds(step, jax.block_until_ready, task.steps)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    emit(**speed("step", task, seconds, operations), peak_gb=peak / 1e9)
    if options.profile:
        from benchmarks.gpu_profile import operations_by_time

        operations_by_time(options.profile, lambda: jax.block_until_ready(step()))


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


def measure_build(emit: Emit, options: argparse.Namespace) -> None:
    """Writes what it takes to draw the initial weights, in one program and as usual."""
    import jax

    jax.devices()  # starts the card
    for way, build in (
        ("weights, at once", functools.partial(built_at_once, compiled_model)),
        ("weights, one by one", compiled_model),
    ):
        began = time.perf_counter()
        model = build(SMALL)
        model.optimizer.build(model.trainable_variables)
        emit(way=way, network=SMALL.name, seconds=time.perf_counter() - began)


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
    """Builds a compiled model on JAX, its initial weights drawn by a single program.

    Built as usual, each weight is drawn by programs of its own, which JAX compiles one
    after another: 230 for GoogLeNet and its optimizer.
    """
    import jax

    models = []

    @jax.jit
    def draw():
        model = build(*arguments)
        model.optimizer.build(model.trainable_variables)
        models.append(model)
        return [variable.value for variable in variables_of(model)]

    values = draw()
    for variable, value in zip(variables_of(models[0]), values, strict=True):
        variable.assign(value)
    return models[0]


def variables_of(model) -> list:
    return [*model.variables, *model.optimizer.variables]


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


def parts(cache: str) -> dict[str, Part]:
    """The parts by name, the most wanted first; what the shell sets has precedence.

    Args:
        cache: Directory for what JAX compiles.
    """
    jax = {
        "KERAS_BACKEND": "jax",
        # These settings, for `first step`, are those of docs/gpu.md.
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_THREEFRY_GPU_KERNEL_LOWERING": "1",
    }
    torch = {"KERAS_BACKEND": "torch"}
    cold = jax | {"JAX_COMPILATION_CACHE_DIR": f"{cache}/cold"}

    def keras(task: Task, **arguments) -> Callable:
        return functools.partial(measure_keras, task=task, **arguments)

    return {
        "matmul": Part(measure_matmul, 40, jax),
        "keras-small": Part(keras(SMALL), 150, jax),
        "keras-small-again": Part(keras(SMALL, first_only=True), 150, jax),
        "cifar10": Part(_cifar10, 380, cold),
        "torch-small": Part(_torch("small"), 200, torch),
        "keras-paper": Part(keras(PAPER), 150, jax),
        "torch-large": Part(_torch("large"), 200, torch),
        "keras-same": Part(keras(SAME), 150, jax),
        "build": Part(measure_build, 150, cold),
    }


def _cifar10(emit: Emit, options: argparse.Namespace) -> None:
    from benchmarks.gpu_cifar10 import measure_accuracy

    measure_accuracy(emit, options, BEGAN)


def _torch(network: str) -> Callable[[Emit, argparse.Namespace], None]:
    def run(emit: Emit, options: argparse.Namespace) -> None:
        from benchmarks.gpu_torch import measure_torch

        measure_torch(emit, options, SMALL if network == "small" else SAME)

    return run


@functools.cache
def about() -> dict[str, str]:
    """Date, card and versions, for every row."""
    from benchmarks.tables import versions

    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        card = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        card = "no GPU"
    packages = ("keras", "jax", "torch", "torchvision")
    date = datetime.date.today().isoformat()
    return {"date": date, "card": card.strip()} | versions(packages)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", metavar="FILE", help="zip of train/ and val/")
    parser.add_argument("--image-size", type=int, default=64, help="for CIFAR-10")
    parser.add_argument("--seconds", type=float, default=345, help="for CIFAR-10")
    parser.add_argument("--epochs", type=int, help="for CIFAR-10: instead of --seconds")
    parser.add_argument("--ways", nargs="+", help="of PyTorch (default: all)")
    parser.add_argument("--profile", metavar="FILE", help="writes operations by time")
    parser.add_argument("--cache", metavar="DIRECTORY", help="what JAX compiled before")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=[*parts("")])
    parser.add_argument("--rows", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # runs it in this process
    options = parser.parse_args()
    if options.part:
        run_here(options)
        return
    with tempfile.TemporaryDirectory() as cache:
        for name, part in parts(options.cache or cache).items():
            if name in (options.only or parts("")):
                run_apart(name, part, options.rows)
    write_table(options.rows)


def run_here(options: argparse.Namespace) -> None:
    """Runs a part in this process."""
    if options.smoke:
        global SMALL, PAPER, SAME, ROUNDS
        ROUNDS = 2
        SMALL, PAPER, SAME = (
            task._replace(batch=8, steps=2) for task in (SMALL, PAPER, SAME)
        )

    def emit(**columns) -> None:
        rounded = {
            name: float(f"{value:.5g}") if isinstance(value, float) else value
            for name, value in columns.items()
        }
        line = json.dumps({"part": options.part} | rounded | about())
        print(line, flush=True)
        with options.rows.open("a") as file:
            file.write(f"{line}\n")

    parts("")[options.part].run(emit, options)


def run_apart(name: str, part: Part, rows: Path) -> None:
    """Runs a part in its own process, which is killed at its time limit."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, *sys.argv[1:]]
    environment = part.environment | os.environ
    try:
        ended = subprocess.run(command, env=environment, timeout=part.seconds)
        failure = f"status {ended.returncode}" if ended.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"more than {part.seconds:g} s"
    if failure:
        print(f"{name}: {failure}", file=sys.stderr, flush=True)
        with rows.open("a") as file:
            file.write(json.dumps({"part": name, "failed": failure}) + "\n")


def write_table(rows: Path) -> None:
    """Writes benchmarks/results/gpu.csv from the rows."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from benchmarks.tables import RESULTS, write

    lines = rows.read_text().splitlines() if rows.exists() else []
    write(RESULTS / "gpu.csv", [json.loads(line) for line in lines])


if __name__ == "__main__":
    main()
