"""Search the endpoints and weights of the auxiliary heads.

The search is stored in DIR; if it is interrupted, run the same command again to resume.
DIR holds trials.csv, best.json (for keras-inception train --hyperparameters),
report.html, report.png, and trials/ (for tensorboard --logdir).
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception_cli import status_of
from keras_inception_cli.console import quiet_start
from tuning import options as command_line
from tuning import workers

if TYPE_CHECKING:  # importing Keras takes seconds, for which --help should not wait
    from tuning.plan import Plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a search and returns the exit status.

    Args:
        arguments: The words after the program's name. Defaults to the process's own.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = command_line.parse(arguments, __doc__ or "")
    return status_of("tuning.search", lambda: run(options, arguments))


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs a search; where KerasTuner's variables are set, one process's part of it."""
    workers.exit_with_launcher()
    command_line.check(options)
    directory, role = options.directory, workers.role()
    if options.workers > 1 and role == "alone":
        status = workers.launch(arguments, options.workers, directory)
        if status == 0:
            _conclude(options)
        return status
    with quiet_start():
        import tensorflow as tf

        from tuning.directory import hold_directory
        from tuning.plan import make_plan

    tf.config.experimental.enable_op_determinism()
    plan = make_plan(options)
    if role == "worker":
        _work(plan)
        return 0
    with hold_directory(directory, plan.choices, overwrite=options.overwrite):
        _print(plan.heading)
        _run_trials(plan, directory)
        if not workers.is_launched():  # else the launcher does it
            _conclude(options)
    return 0


def _work(plan: "Plan") -> None:
    """Trains the trials that the chief hands out."""
    from tuning.progress import search_bar

    with search_bar() as bar:
        with _keras_tuner_muted():
            tuner = plan.make_tuner(bar)
        _print(f"{workers.worker_name()} works for the chief at {workers.address()}")
        with _keras_tuner_muted():
            tuner.search()
    _print("no trials are left")


def _run_trials(plan: "Plan", directory: Path) -> None:
    """Trains the remaining trials; the chief of several workers hands them out."""
    from keras_inception.training import MONITOR
    from tuning import progress, results

    stdout = sys.stdout
    with progress.search_bar() as bar:
        tuner = plan.make_tuner(bar)
        oracle = tuner.oracle
        if oracle.end_order:
            _print(f"resuming: {len(oracle.end_order)} trials are done")
        else:
            tuner.check()
        _print(f"trial  {MONITOR}")
        oracle.after_trial = lambda trial: progress.finish_trial(
            directory, int(trial.trial_id), bar, stdout
        )
        progress.show_progress(bar, results.read(directory), resumed=True)
        try:
            with _keras_tuner_muted():
                tuner.search()
        except KeyboardInterrupt:
            bar.clear()
            _print("interrupted: run the same command again to resume")
            raise


def _conclude(options: argparse.Namespace) -> None:
    """Writes the results; prints the conclusions and the command that trains the best.

    Raises:
        RuntimeError: If the last three trials failed.
    """
    with quiet_start():
        from tuning import report, results
        from tuning.crash_safe_oracles import FAILURES

    search = results.read(options.directory)
    results.write(search, options.directory)
    ended = [trial for trial in search.trials if trial.status != "RUNNING"]
    last = ended[-FAILURES:]
    if search.best is None or all(trial.status == "FAILED" for trial in last):
        raise RuntimeError(
            f"{len(last)} trials failed in a row, which ends the search. The last "
            f"error: {last[-1].error if last else 'no trial was run'}"
        )
    page = report.write(search, options.directory)
    _print("\n".join(report.conclusions(search)))
    best = options.directory / "best.json"
    _print(f"wrote {best}, {options.directory / 'trials.csv'}, {page}")
    _print(f"train it: {command_line.train_command(options, best)}")


@contextlib.contextmanager
def _keras_tuner_muted() -> Iterator[None]:
    """Discards the numbers that KerasTuner's chief and workers print."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _print(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
