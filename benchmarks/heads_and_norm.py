"""Recipe `small` with and without heads, with and without batch normalization.

    python -m benchmarks.heads_and_norm FOLDER OUT.csv

Every training is a run of `keras-inception train FOLDER`; its directory stays in
`--runs`. A row is written after each training, and a training whose row OUT.csv has
already is skipped; the table at the end is of all its rows.
"""

import subprocess
import sys
from pathlib import Path

from benchmarks.studies import run_study, study_parser
from benchmarks.tables import read

ARMS = {
    "batch norm and heads": (),
    "neither": ("--no-batch-norm", "--heads"),
    "batch norm": ("--heads",),
    "heads": ("--no-batch-norm",),
}


def main() -> None:
    """Runs the study."""
    defaults = {"epochs": 6, "image_size": 32, "width": 0.25}
    parser = study_parser(__doc__, **defaults)
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/heads_and_norm"),
        help="(default: runs/heads_and_norm)",
    )
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in defaults}
    given = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]

    def train(arm: str, seed: int) -> dict[str, str]:
        """Trains with the command; returns the accuracies of the last epoch."""
        name = f"{arm.replace(' ', '-')}-{seed}"
        words = [sys.executable, "-m", "keras_inception_cli", "train", options.folder]
        words += ["--runs", options.runs, "--name", name, "--overwrite"]
        words += ["--recipe", "small", f"--seed={seed}", *given, *ARMS[arm]]
        subprocess.run(words, check=True)
        last = read(options.runs / name / "history.csv")[-1]
        return {
            f"{output}_accuracy": last.get(f"val_{output}_accuracy", "")
            for output in ("main", "aux_4a", "aux_4d")
        }

    run_study(options.out, ARMS, options.seeds, settings, train)


if __name__ == "__main__":
    main()
