"""Early exits of ResNet-50 beside those of earlyon, in turns: batches of 1 and 32.

    pip install earlyon
    python -m benchmarks.early_exit_peers

earlyon, for PyTorch, puts the same three exits on torchvision's network as are put here
on that of `keras.applications`: after its first three stages. Random weights, 224
pixels, 1,000 classes. For each: the network alone, all pictures leaving at the first
exit, and none leaving early, which is what the exits themselves cost. In "half leave"
the threshold is the median confidence at the first exit: earlyon then computes all
pictures of a batch to the end, while here those that stay continue alone. Writes
benchmarks/results/early_exit_peers.csv and a plot.
"""

import argparse
import os

from benchmarks.alternation import Candidate, Turn, in_turns
from benchmarks.tables import finish

LEAVING = ("alone", "none leaves", "half leave", "all leave")


def main() -> None:
    """Measures both, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    candidates = [
        Candidate(
            f"{name}, {leaving}",
            f"benchmarks.candidates:{setup}",
            {"threads": options.threads, "leaving": leaving},
        )
        for name, setup in (
            ("keras-inception", "resnet_exits"),
            ("earlyon", "earlyon_exits"),
        )
        for leaving in LEAVING
    ]
    rows = in_turns(candidates, (Turn(1, 4), Turn(32)), options.rounds)
    finish("early_exit_peers", rows, "earlyon, alone", options.threads)


if __name__ == "__main__":
    main()
