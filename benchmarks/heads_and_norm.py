"""Recipe `small` with and without heads, with and without batch normalization.

    python -m benchmarks.heads_and_norm FOLDER OUT.csv

Every training is a run of `keras-inception train FOLDER`; its directory stays in
`--runs`. A row is written after each training, and a training whose row OUT.csv has
already is skipped; the table at the end is of all its rows.
"""

from benchmarks.studies import run_command_study

ARMS = {
    "batch norm and heads": ("--recipe=small",),
    "neither": ("--recipe=small", "--no-batch-norm", "--heads"),
    "batch norm": ("--recipe=small", "--heads"),
    "heads": ("--recipe=small", "--no-batch-norm"),
}

if __name__ == "__main__":
    run_command_study(__doc__, ARMS, epochs=6, image_size=32, width=0.25)
