"""Heads that also learn main's softened answers, against heads that learn labels only.

    python -m benchmarks.distillation FOLDER OUT.csv

Every training is a run of `keras-inception train FOLDER`; its directory stays in
`--runs`. Rows are written, skipped and summed up as in `benchmarks.heads_and_norm`.
"""

from benchmarks.studies import run_command_study

ARMS = {
    "labels": (),
    "distilled": ("--distillation=0.5", "--temperature=3"),
}

if __name__ == "__main__":
    run_command_study(__doc__, ARMS, epochs=2, image_size=32, width=0.25)
