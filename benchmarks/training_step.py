"""A training step compared with torchvision's, in turns: seconds and memory.

    python -m benchmarks.training_step

Forward, loss of the main output and of both heads, backward, and SGD with momentum, in
batches of 32 at 224 pixels with 1,000 classes. `same network` is torchvision's, with
batch normalization, built by us. `bfloat16`: mixed precision of Keras and of PyTorch.
`freed memory kept`: see `alternation.FREED_MEMORY_KEPT`.

The peak is that of the whole process while it repeats its steps; `idle` is its memory
before the first step, with library and network loaded. Medians, quartiles and the
medians of the rounds' ratios are written to benchmarks/results/training_step.csv, and a
plot to training_step.png.
"""

import argparse
import os

from benchmarks.alternation import FREED_MEMORY_KEPT, Candidate, Turn, in_turns
from benchmarks.tables import finish

PEER = "torchvision, eager"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--only",
        nargs="+",
        help="measure only candidates whose name contains one of these",
    )
    parser.add_argument("--name", default="training_step", help="name of the results")
    options = parser.parse_args()
    candidates = [
        candidate
        for candidate in compared(options.threads)
        if candidate.name == PEER
        or not options.only
        or any(word in candidate.name for word in options.only)
    ]
    rows = in_turns(candidates, [Turn(options.batch_size)], options.rounds)
    finish(options.name, rows, PEER, options.threads)


def compared(threads: int) -> list[Candidate]:
    """Every candidate."""

    def candidate(name, function, environment=None, **arguments):
        setup = f"benchmarks.candidates:{function}"
        arguments = {"threads": threads} | arguments
        return Candidate(name, setup, arguments, environment or {})

    same = {"architecture": "googlenet_torchvision", "batch_norm": True}
    return [
        candidate("googlenet", "keras_training"),
        candidate("googlenet, bfloat16", "keras_training", bfloat16=True),
        candidate("same network", "keras_training", **same),
        candidate("same network, bfloat16", "keras_training", bfloat16=True, **same),
        candidate(PEER, "torchvision_training"),
        candidate("torchvision, torch.compile", "torchvision_training", compiled=True),
        candidate("torchvision, bfloat16", "torchvision_training", bfloat16=True),
        candidate(
            "torchvision, eager, freed memory kept",
            "torchvision_training",
            FREED_MEMORY_KEPT,
        ),
    ]


if __name__ == "__main__":
    main()
