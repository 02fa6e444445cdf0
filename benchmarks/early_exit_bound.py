"""How often early exits cost more accuracy than was allowed.

    python -m benchmarks.early_exit_bound FOLDER --run runs/early_exit

Divides the answers to the validation pictures anew many times: one half calibrates,
with and without a confidence level, and the other half is judged.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from benchmarks.early_exit import last_epoch
from benchmarks.small_pictures import in_memory
from benchmarks.tables import write
from keras_inception import data
from keras_inception.early_exit import search
from keras_inception.early_exit.answers import collect_answers
from keras_inception.early_exit.calibration import answer_cost
from keras_inception.early_exit.checks import possible_exits
from keras_inception.early_exit.choosing import Goal, choose
from keras_inception.early_exit.points import Judge

MEASURE = "max_probability"
DRAWN = "all, drawn from with replacement"


def bound(options: argparse.Namespace) -> None:
    """Counts how often a drop is exceeded, with and without a confidence level.

    Each time a random half of the pictures calibrates, and the other half is judged.
    Then once more with pictures drawn with replacement, where the drop on all of them
    is the true one.
    """
    model = keras.saving.load_model(options.model or last_epoch(options.run))
    source = data.find(options.folder)
    pictures = in_memory(source, source.validation, model.inputs[0].shape[1])
    names = [*possible_exits(model), "main"]
    everyone = collect_answers(model, names, pictures)
    cost = answer_cost(model, names[:-1])
    main_cost = cost([False] * (len(names) - 1), len(names) - 1)
    count = len(everyone.labels)
    search.CELLS = 10_000  # coarser thresholds, in a tenth of the time
    rows = []
    for level in (options.confidence_level, None):
        goal = Goal(options.max_drop, None, level)
        random = np.random.default_rng(options.seed)
        for way in ("other half", DRAWN):
            drops, shares = [], []
            for _ in range(options.times):
                order = random.permutation(count)
                chooses, judges = order[: count // 2], order[count // 2 :]
                if way == DRAWN:
                    chooses = random.integers(0, count, count // 2)
                    judges = np.arange(count)
                choice = choose(everyone.take(chooses), MEASURE, cost, goal)
                judged = Judge(everyone.take(judges), MEASURE, choice.temperatures)
                losses, gains = judged.losses_and_gains(choice.point.thresholds)
                drops.append((losses - gains) / len(judges))
                shares.append(choice.point.multiply_adds / main_cost)
            rows.append(
                {
                    "confidence_level": level or "none",
                    "judged_on": way,
                    "times": options.times,
                    "allowed_drop": options.max_drop,
                    "violations": round(
                        float(np.mean(np.array(drops) > options.max_drop)), 4
                    ),
                    "mean_drop": round(float(np.mean(drops)), 5),
                    "share_of_multiply_adds": round(float(np.mean(shares)), 4),
                }
            )
            print(rows[-1], flush=True)
    write(options.run / "early_exit_bound.csv", rows)


def main() -> None:
    """Counts, and writes early_exit_bound.csv into the run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="with train/ and val/, a folder per class")
    parser.add_argument("--run", type=Path, default=Path("runs/early_exit"))
    parser.add_argument("--model", help="(default: the run's)")
    parser.add_argument("--max-drop", type=float, default=0.005)
    parser.add_argument("--confidence-level", type=float, default=0.95)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    bound(parser.parse_args())


if __name__ == "__main__":
    main()
