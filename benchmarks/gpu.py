"""Training on one GPU: the first step, the step, accuracy on CIFAR-10, and PyTorch.

    python -m benchmarks.gpu --cifar10 cifar10.zip

Keras runs on JAX, in bfloat16, without TensorFlow. Each part runs in its own process
with a time limit, and appends its rows to a file of JSON lines as they come; at the end
all rows go to benchmarks/results/gpu.csv. `--only` chooses parts; `--smoke` tries them
with tiny sizes, on a CPU too, and writes no table.

`first step` is the time from the start of a process to the end of its first training
step: imports, weights, compilation; in the part `keras-small-again` with what an
earlier process compiled. `fit` trains from arrays in the host's memory. `step` is the
compiled training step alone, on a batch that is on the card; `torch` is PyTorch's,
channels-last. A step's operations are six times the network's multiply-adds. `heads`
trains with heads and without, and writes the table of `--studies`.
"""

import argparse
import datetime
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

BEGAN = time.perf_counter()

JAX = {
    "KERAS_BACKEND": "jax",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_THREEFRY_GPU_KERNEL_LOWERING": "1",
}
TORCH = {"KERAS_BACKEND": "torch"}  # only the tables are used


STUDIES = Path("benchmarks/results/paired_studies_full_width")


class Part(NamedTuple):
    """A part of the benchmark, which runs in its own process.

    Attributes:
        function: `module:function`, of a module beside this one.
        seconds: Its time limit.
        environment: Environment variables; what the shell sets has precedence.
        arguments: Keyword arguments of the function.
    """

    function: str
    seconds: float
    environment: Mapping[str, str]
    arguments: Mapping[str, object] = {}


# The most important first.
PARTS = {
    "matmul": Part("gpu_keras:measure_matmul", 40, JAX),
    "keras-small": Part("gpu_keras:measure_steps", 170, JAX, {"task": "small"}),
    "keras-small-again": Part(
        "gpu_keras:measure_first_step", 60, JAX, {"task": "small"}
    ),
    "cifar10": Part("gpu_cifar10:measure_accuracy", 380, JAX),
    "heads": Part("gpu_heads:measure_heads", 560, JAX),
    "torch-small": Part("gpu_torch:measure_torch", 250, TORCH, {"task": "small"}),
    "keras-paper": Part("gpu_keras:measure_steps", 170, JAX, {"task": "paper"}),
    "torch-large": Part("gpu_torch:measure_torch", 250, TORCH, {"task": "same"}),
    "keras-same": Part("gpu_keras:measure_steps", 170, JAX, {"task": "same"}),
    "weights": Part("gpu_keras:measure_weights", 120, JAX),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", metavar="FILE", help="zip of train/ and val/")
    parser.add_argument("--image-size", type=int, default=48, help="for CIFAR-10")
    parser.add_argument("--seconds", type=float, default=345, help="for CIFAR-10")
    parser.add_argument("--epochs", type=int, help="for CIFAR-10: instead of --seconds")
    parser.add_argument("--save", metavar="FILE", help="the network of CIFAR-10")
    parser.add_argument("--heads-seconds", type=float, default=500)
    parser.add_argument("--studies", type=Path, default=STUDIES, help="for the heads")
    parser.add_argument("--ways", nargs="+", help="of PyTorch (default: all)")
    parser.add_argument("--profile", metavar="FILE", help="writes kernels by time")
    parser.add_argument(
        "--cache", help="directory of what JAX compiled (default: none yet)"
    )
    parser.add_argument("--only", nargs="+", metavar="PART", choices=PARTS)
    parser.add_argument("--rows", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # runs it in this process
    options = parser.parse_args()
    if options.part:
        run_here(options)
        return
    with tempfile.TemporaryDirectory() as empty:
        for name, part in PARTS.items():
            if name not in (options.only or PARTS):
                continue
            if name in ("cifar10", "heads") and not options.cifar10:
                parser.error(f"the part {name} needs --cifar10 FILE; or use --only")
            # A part that measures its compilation shares no cache with earlier parts.
            own = name in ("cifar10", "heads", "weights")
            cache = tempfile.mkdtemp(dir=empty) if own else options.cache or empty
            run_apart(name, part, cache, options.rows)
    if not options.smoke:
        write_table(options.rows)


def run_here(options: argparse.Namespace) -> None:
    """Runs a part in this process."""

    def emit(**columns) -> None:
        rounded = {
            name: float(f"{value:.5g}") if isinstance(value, float) else value
            for name, value in columns.items()
        }
        line = json.dumps({"part": options.part} | rounded | about())
        print(line, flush=True)
        with options.rows.open("a") as file:
            file.write(f"{line}\n")

    part = PARTS[options.part]
    module, function = part.function.split(":")
    measure = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    options.began = BEGAN
    measure(emit, options, **part.arguments)


def run_apart(name: str, part: Part, cache: str, rows: Path) -> None:
    """Runs a part in its own process, which is killed at its time limit."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, *sys.argv[1:]]
    environment = {**part.environment, **os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    try:
        ended = subprocess.run(command, env=environment, timeout=part.seconds)
        failure = f"status {ended.returncode}" if ended.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"more than {part.seconds:g} s"
    if failure:
        print(f"{name}: {failure}", file=sys.stderr, flush=True)
        with rows.open("a") as file:
            file.write(json.dumps({"part": name, "way": f"failed: {failure}"}) + "\n")


@functools.cache
def about() -> dict[str, str]:
    """Date, card and versions, for every row."""
    from benchmarks.tables import versions

    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        card = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        card = "no GPU"
    date = datetime.date.today().isoformat()
    packages = ("keras", "jax", "torch", "torchvision")
    return {
        "date": date,
        "card": card.strip(),
        **versions(packages),
        "flags": os.environ.get("XLA_FLAGS", ""),
    }


def write_table(rows: Path) -> None:
    """Writes benchmarks/results/gpu.csv from the rows."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from benchmarks.tables import RESULTS, write

    lines = rows.read_text().splitlines() if rows.exists() else []
    write(RESULTS / "gpu.csv", [json.loads(line) for line in lines])


if __name__ == "__main__":
    main()
