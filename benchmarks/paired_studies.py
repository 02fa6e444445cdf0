r"""What the heads are for: paired trainings with them and without, in three regimes.

    python -m benchmarks.paired_studies run PICTURES OUT
    python -m benchmarks.paired_studies report OUT

PICTURES holds the folders tinyimagenet20 and cifar10. `run` trains what OUT does not
have yet, in an order that leaves whole comparisons if it is stopped early; a training
is written to OUT's tables when it is done. Start it once for each core: processes share
the work, and after one that was killed its current training is repeated. `--share 0/2`
and `1/2` are for machines that do not share OUT. `report` needs no pictures: it prints
and draws what OUT has so far.

Regimes: "Xavier" has the weights of Caffe and no batch normalization; "He" has today's
weights and no batch normalization; "batch norm" has both. Arms: no heads; the
paper's two, of weight 0.3; 4a or 4d alone; the paper's with weights that fall to 0;
with batch normalization in the heads; superclasses for 4a. Trainings of the same seed
begin with the same trunk, and with the same weights in heads that both have, and see
the same pictures in the same order, shifted and mirrored alike.

At full width, on a GPU: `python -m benchmarks.gpu --only heads`.
"""

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import keras

from benchmarks.paired_pictures import read_pictures
from benchmarks.paired_report import report
from benchmarks.paired_training import Arm, Regime, train
from benchmarks.tables import environment, read, write
from keras_inception.locks import locked

# Tried for "Xavier", on a seed that is not among those of the studies: normal weights
# of deviation 0.01 send 1e-18 of main's gradient to the first stage at this width; no
# loss moves in an epoch. With Xavier's and a learning rate of 0.03 main alone stays at
# chance for an epoch, then starts; with 0.01 it stays there for three.
REGIMES = {
    "Xavier": Regime("xavier", batch_norm=False, learning_rate=0.01, epochs=6),
    "He": Regime("he", batch_norm=False, learning_rate=0.01, epochs=6),
    "batch norm": Regime("he", batch_norm=True, learning_rate=0.05, epochs=4),
}
PAPER = ("inception_4a", "inception_4d")
ARMS = {
    "no heads": Arm(),
    "paper": Arm(PAPER),
    "4a": Arm(("inception_4a",)),
    "4d": Arm(("inception_4d",)),
    "falling": Arm(PAPER, schedule="linear"),
    "batch norm in heads": Arm(PAPER, batch_norm=True),
    "coarse 4a": Arm(("inception_4a",), coarse=True),
    "3b": Arm(("inception_3b",)),
    "5a": Arm(("inception_5a",)),
}
FIRST = ("no heads", "paper", "4a", "4d")
SECOND = ("falling", "batch norm in heads", "coarse 4a")
PHASES = (
    ("tinyimagenet20", FIRST),
    ("tinyimagenet20", SECOND),
    ("cifar10", FIRST),
    ("cifar10", SECOND),
    ("tinyimagenet20", ("3b", "5a")),  # more placements for the correlations
)
# An attribution adds half of a training's time or more, so only these keep one.
ATTRIBUTED_ARMS, ATTRIBUTED_SEEDS = ("paper", "4a", "4d", "3b", "5a"), 2
# Measured on one core: before and after the steps, and for 1,000 of them; without batch
# normalization and with it.
SECONDS = {False: (22, 60), True: (35, 135)}
WITH_ACCOUNT = 1.7


class Job(NamedTuple):
    """One training of the studies."""

    dataset: str
    regime: str
    arm: str
    seed: int

    @property
    def attributed(self) -> bool:
        return self.arm in ATTRIBUTED_ARMS and self.seed < ATTRIBUTED_SEEDS

    def row(self) -> dict[str, str]:
        """The columns that name it, as a table has them."""
        return {name: str(value) for name, value in self._asdict().items()}


def jobs(
    seeds: int, datasets: Sequence[str], regimes: Sequence[str], arms: Sequence[str]
) -> list[Job]:
    """The trainings in their order: by phase, seed, regime, arm."""
    return [
        Job(dataset, regime, arm, seed)
        for dataset, of_phase in PHASES
        for seed in range(seeds)
        for regime, arm in itertools.product(REGIMES, of_phase)
        if dataset in datasets and regime in regimes and arm in arms
    ]


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("run", help="train what OUT lacks").add_argument
    add("pictures", type=Path, help="holds tinyimagenet20 and cifar10")
    add("out", type=Path, help="the folder of the tables")
    add("--share", default="0/1", metavar="I/N", help="every Nth training from the Ith")
    add("--seeds", type=int, default=5, help="(default: 5)")
    add("--per-class", type=int, default=400, help="training pictures (default: 400)")
    add("--held-out", type=int, default=3000, help="pictures (default: 3000)")
    for name, known, default in (
        ("dataset", DATASETS, DATASETS),
        ("regime", REGIMES, REGIMES),
        ("arm", ARMS, ARMS),
    ):
        help_text = f"these alone (default: {', '.join(default)})"
        add(f"--{name}s", nargs="+", choices=known, default=[*default], help=help_text)
    shown = commands.add_parser("report", help="print and draw what OUT has")
    shown.add_argument("out", type=Path, help="the folder of the tables")
    options = parser.parse_args()
    if options.command == "report":
        report(options.out)
        return
    index, count = map(int, options.share.split("/"))
    if not 0 <= index < count:
        parser.error(f"--share is I/N with I from 0 to N - 1, not {options.share}")
    chosen = options.datasets, options.regimes, options.arms
    todo = jobs(options.seeds, *chosen)[index::count]
    settings = {"per_class": options.per_class, "held_out": options.held_out}
    run(options.pictures, options.out, todo, settings)


DATASETS = tuple(dict.fromkeys(dataset for dataset, _ in PHASES))


def run(
    pictures: Path,
    out: Path,
    todo: Sequence[Job],
    settings: Mapping[str, int],
) -> None:
    """Trains what is neither in the tables nor under way in another process."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    out.mkdir(parents=True, exist_ok=True)

    @cache
    def load(dataset: str):
        sizes = settings["per_class"], settings["held_out"]
        return read_pictures(pictures / dataset, *sizes)

    for job in claimed(out, todo, settings):
        training = load(job.dataset)
        started = time.perf_counter()
        figures, tables = train(
            training,
            REGIMES[job.regime],
            ARMS[job.arm],
            job.seed,
            attribution=job.attributed,
            probes=job.arm == "no heads",
        )
        figures["attributed"] = int(job.attributed)
        write_down(out, job, {**settings, **figures, **environment()}, tables)
        seconds = time.perf_counter() - started
        print(
            f"{', '.join(job.row().values())}: main {figures['main_accuracy']:.4f}, "
            f"{seconds:.0f} s",
            flush=True,
        )


def claimed(
    out: Path, todo: Sequence[Job], settings: Mapping[str, int]
) -> Iterator[Job]:
    """Yields jobs that are not done, each locked against other processes."""
    if hours := hours_left(out, todo, settings):
        print(f"About {hours:.1f} hours of one core", flush=True)
    for job in todo:
        name = "-".join(job.row().values()).replace(" ", "-")
        with locked(out / f".{name}.lock", temporary=True) as free:
            if free and job.row() not in done(out, settings):
                yield job


def done(out: Path, settings: Mapping[str, int]) -> list[dict[str, str]]:
    """The jobs whose rows are there; stops at rows of other settings."""
    rows = read(out / "trainings.csv")
    for row in rows:
        if any(row[name] != str(value) for name, value in settings.items()):
            raise SystemExit(f"{out} holds studies with other settings. Use another.")
    return [{name: row[name] for name in Job._fields} for row in rows]


def hours_left(out: Path, todo: Sequence[Job], settings: Mapping[str, int]) -> float:
    """An estimate, on one core, in hours."""
    finished, seconds = done(out, settings), 0.0
    for job in todo:
        if job.row() not in finished:
            classes = 10 if job.dataset == "cifar10" else 20
            regime = REGIMES[job.regime]
            steps = regime.epochs * settings["per_class"] * classes / regime.batch
            fixed, per_thousand = SECONDS[regime.batch_norm]
            factor = WITH_ACCOUNT if job.attributed else 1.0
            seconds += factor * (fixed + per_thousand * steps / 1000)
    return seconds / 3600


def write_down(
    out: Path, job: Job, row: Mapping[str, object], tables: Mapping[str, Sequence]
) -> None:
    """Adds a training to the tables; its row comes last, as it says that all is there.

    Rows of the same job, which a killed process left, are replaced.
    """
    with locked(out / ".tables.lock", wait=600) as free:
        if not free:
            raise SystemExit(f"{out} has been locked for ten minutes.")
        for name, new in (*tables.items(), ("trainings", [row])):
            path, key = out / f"{name}.csv", job.row()
            kept: list[Mapping] = [
                r for r in read(path) if not key.items() <= r.items()
            ]
            write(path, [*kept, *(key | one for one in new)])


if __name__ == "__main__":
    main()
