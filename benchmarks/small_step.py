"""A training step on small pictures compared with PyTorch's, in turns.

    python -m benchmarks.small_step --width 0.25
    python -m benchmarks.small_step --width 1

The network for 32 pixels with batch normalization and both heads, 10 classes, SGD with
momentum, beside the same network in PyTorch, channels-last. Medians, quartiles and the
medians of the rounds' ratios are written to benchmarks/results/small_step_WIDTH.csv.
"One thread each": TensorFlow's operations use one thread each, and run side by side.
"""

import argparse
import os
from collections.abc import Callable
from functools import cache

from benchmarks.alternation import Candidate, Turn, in_turns
from benchmarks.tables import finish

PEER = "PyTorch, eager"


def keras_step(
    threads: int, width: float, bfloat16: bool = False, each: int | None = None
) -> Callable:
    """The step of this package, as in `fit`, metrics of all outputs included.

    `each` is the number of threads of an operation; operations run side by side.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(each or threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    import keras

    import keras_inception as ki
    from benchmarks.gpu_keras import TASKS, random_batch

    keras.utils.set_random_seed(0)
    if bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = ki.GoogLeNet(
        (32, 32, 3), 10, architecture=ki.GOOGLENET_SMALL, width=width, batch_norm=True
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), jit_compile=False)

    @cache
    def inputs(batch: int):
        images, labels = random_batch(TASKS["small"]._replace(batch=batch))
        return images.astype("float32"), labels

    return lambda batch: model.train_on_batch(*inputs(batch))


def torch_step(
    threads: int, width: float, bfloat16: bool = False, compiled: bool = False
) -> Callable:
    """The step in PyTorch, without metrics."""
    os.environ["KERAS_BACKEND"] = "torch"  # only the tables are used
    import torch

    import keras_inception as ki
    from benchmarks.gpu_keras import TASKS, random_batch
    from benchmarks.gpu_torch import Network, weighted_loss

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = Network(ki.GOOGLENET_SMALL, 10, width).train()
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    forward = torch.compile(network) if compiled else network

    @cache
    def inputs(batch: int):
        images, labels = random_batch(TASKS["small"]._replace(batch=batch))
        # The pictures are channels-last in memory already.
        pixels = torch.from_numpy(images.astype("float32")).permute(0, 3, 1, 2)
        return pixels, torch.from_numpy(labels).long()

    def step(batch: int):
        pixels, labels = inputs(batch)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            outputs = forward(pixels.div(127.5).sub(1))
            loss = weighted_loss(outputs, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--only",
        nargs="+",
        help="measure only candidates whose name contains one of these",
    )
    parser.add_argument("--name", help="of the results (default: small_step_WIDTH)")
    options = parser.parse_args()
    common = {"threads": options.threads, "width": options.width}
    candidates = [
        Candidate(name, f"benchmarks.small_step:{function}", common | arguments)
        for name, function, arguments in (
            ("googlenet_small", "keras_step", {}),
            ("googlenet_small, bfloat16", "keras_step", {"bfloat16": True}),
            ("googlenet_small, one thread each", "keras_step", {"each": 1}),
            (
                "googlenet_small, one thread each, bfloat16",
                "keras_step",
                {"each": 1, "bfloat16": True},
            ),
            (PEER, "torch_step", {}),
            ("PyTorch, torch.compile", "torch_step", {"compiled": True}),
            ("PyTorch, bfloat16", "torch_step", {"bfloat16": True}),
        )
        if name == PEER
        or not options.only
        or any(word in name for word in options.only)
    ]
    calls = 8 if options.width < 0.5 else 2
    rows = in_turns(candidates, [Turn(32, calls), Turn(128, calls)], options.rounds)
    name = options.name or f"small_step_{options.width:g}"
    finish(name, rows, PEER, options.threads)


if __name__ == "__main__":
    main()
