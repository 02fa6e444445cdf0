"""Studies: every arm trained with several seeds, resumable, summed up in a table."""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.tables import environment, read, write
from keras_inception_cli.console import print_table


def study_parser(description: str, **defaults: float) -> argparse.ArgumentParser:
    """A parser for FOLDER, OUT.csv, `--seeds`, and an option for each default.

    Args:
        description: The module's docstring.
        **defaults: Settings, the same for all rows of a study, and their defaults.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with train/ and val/")
    parser.add_argument("out", type=Path, help="the CSV file of the study's rows")
    parser.add_argument("--seeds", type=int, default=3, help="(default: 3)")
    for name, value in defaults.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value),
            default=value,
            help=f"(default: {value})",
        )
    return parser


def run_study(
    out: Path,
    arms: Iterable[str],
    seeds: int,
    settings: Mapping[str, float],
    train: Callable[[str, int], Mapping[str, object]],
) -> None:
    """Trains every arm with every seed, and prints the means over the seeds.

    Seeds are the outer loop, so that an interrupted study is balanced. A row is written
    after each training; a training whose row exists is skipped.

    Args:
        out: The CSV file.
        arms: Names of the arms.
        seeds: Number of seeds, from 0.
        settings: Settings that all rows have in common.
        train: Called with an arm and a seed; returns the accuracies, in columns that
            end in `accuracy`.
    """
    rows: list[Mapping[str, object]] = list(read(out))
    for row in rows:
        if any(float(str(row[name])) != value for name, value in settings.items()):
            raise SystemExit(
                f"{out} holds a study with other settings. Use another file."
            )
    done = {(row["arm"], int(str(row["seed"]))) for row in rows}
    for seed in range(seeds):
        for arm in arms:
            if (arm, seed) in done:
                continue
            started = time.perf_counter()
            accuracies = train(arm, seed)
            seconds = round(time.perf_counter() - started)
            row = {"arm": arm, "seed": seed, **settings, **accuracies}
            rows.append(row | {"seconds": seconds, **environment()})
            print(rows[-1], flush=True)
            write(out, rows)
    print_means(read(out))


def run_command_study(
    description: str, arms: Mapping[str, Sequence[str]], **defaults: float
) -> None:
    """A study whose trainings are runs of `keras-inception train FOLDER`.

    Args:
        description: The module's docstring.
        arms: The options that make each arm.
        **defaults: As for `study_parser`; options of `train`, the same for all arms.
    """
    parser = study_parser(description, **defaults)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("runs/study"), help="(default: runs/study)")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in defaults}
    given = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]

    def train(arm: str, seed: int) -> dict[str, str]:
        """Trains with the command; returns the accuracies of the last epoch."""
        name = f"{arm.replace(' ', '-')}-{seed}"
        words = [sys.executable, "-m", "keras_inception_cli", "train", options.folder]
        words += ["--runs", options.runs, "--name", name, "--overwrite"]
        subprocess.run([*words, f"--seed={seed}", *given, *arms[arm]], check=True)
        last = read(options.runs / name / "history.csv")[-1]
        return {
            f"{output}_accuracy": last.get(f"val_{output}_accuracy", "")
            for output in ("main", "aux_4a", "aux_4d")
        }

    run_study(options.out, arms, options.seeds, settings, train)


def print_means(rows: list[dict[str, str]]) -> None:
    """Prints mean and standard deviation of each accuracy over an arm's seeds."""
    names = [name for name in rows[0] if name.endswith("accuracy")]
    cells = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = [row for row in rows if row["arm"] == arm]
        cells.append([arm, len(of_arm)])
        for name in names:
            values = [float(row[name]) for row in of_arm if row[name]]
            text = f"{statistics.mean(values):.4f}" if values else "-"
            if len(values) > 1:
                text += f" +- {statistics.stdev(values):.4f}"
            cells[-1].append(text)
    print_table(cells, ["arm", "seeds", *names])
