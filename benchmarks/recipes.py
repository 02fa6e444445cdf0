"""The recipes `small` and `modern`, for the same number of epochs.

    python -m benchmarks.recipes FOLDER OUT.csv

Every training is a run of `keras-inception train FOLDER`; its directory stays in
`--runs`. Rows are written, skipped and summed up as in `benchmarks.heads_and_norm`. The
column `seconds` compares the recipes' speed only if nothing else runs on the machine.
"""

from benchmarks.studies import run_command_study

ARMS = {name: (f"--recipe={name}",) for name in ("small", "modern")}

if __name__ == "__main__":
    run_command_study(__doc__, ARMS, epochs=10, image_size=32, width=0.25)
