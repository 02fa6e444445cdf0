"""Search the endpoints and weights of the auxiliary heads.

The search is stored in DIR; if it is interrupted, run the same command again to resume.
DIR holds trials.csv, best.json (for keras-inception train --hyperparameters),
report.html, report.png, and trials/ (for tensorboard --logdir).
"""

import argparse
import contextlib
import importlib.util
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
    """Runs a search with the process's arguments or these; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = command_line.parse(arguments, __doc__ or "")
    return status_of("tuning.search", lambda: run(options, arguments))


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs a search, or one process's part of it if KerasTuner's variables are set."""
    workers.exit_with_launcher()
    command_line.check(options)
    directory, role = options.directory, workers.role()
    if options.workers > 1 and role == "alone":
        status = workers.launch(arguments, options.workers, directory)
        if status == 0:
            _conclude(options)
        return status
    if importlib.util.find_spec("keras_tuner") is None:
        raise RuntimeError(
            "The search needs keras_tuner. Install the extra: pip install '.[tuning]'"
        )
    with quiet_start():
        import tensorflow as tf

        from keras_inception import networks
        from tuning.plan import hold_directory, make_plan

    tf.config.experimental.enable_op_determinism()
    if options.network and options.weights is None:
        options.weights = networks.published_weights(options.network, print) or "none"
        options.given.append("weights")
    plan = make_plan(options)
    if role == "worker":
        _work(plan)
        return 0
    with hold_directory(directory, plan.choices, overwrite=options.overwrite):
        _print(plan.heading)
        _run_trials(plan, directory)
        if workers.LAUNCHED not in os.environ:  # else the launcher does it
            _conclude(options)
    return 0


def _work(plan: "Plan") -> None:
    """Trains the trials that the chief hands out."""
    from tuning.tuner import search_bar

    variables = ("TUNER_ID", "ORACLE_IP", "ORACLE_PORT")
    name, ip, port = (os.environ[f"KERASTUNER_{name}"] for name in variables)
    _print(f"{name} works for the chief at {ip}:{port}")
    with search_bar() as bar, _keras_tuner_muted():
        plan.make_tuner(bar).search()
    _print("no trials are left")


def _run_trials(plan: "Plan", directory: Path) -> None:
    """Trains the remaining trials; the chief of several workers hands them out."""
    from keras_inception.training import MONITOR
    from tuning import results
    from tuning.tuner import finish_trial, search_bar, show_progress

    stdout = sys.stdout
    with search_bar() as bar:
        tuner = plan.make_tuner(bar)
        if tuner.oracle.end_order:
            _print(f"resuming: {len(tuner.oracle.end_order)} trials are done")
        else:
            tuner.check()
        _print(f"trial  {MONITOR}")
        tuner.oracle.after_trial = lambda trial: finish_trial(
            directory, int(trial.trial_id), bar, stdout
        )
        show_progress(bar, results.read(directory), resumed=True)
        try:
            with _keras_tuner_muted():
                tuner.search()
        except KeyboardInterrupt:
            bar.clear()
            _print("interrupted: run the same command again to resume")
            raise


def _conclude(options: argparse.Namespace) -> None:
    """Writes the results; prints the conclusions and how to train the best."""
    with quiet_start():
        from tuning import report, results
        from tuning.crash_safe_oracles import FAILURES

    search = results.read(options.directory)
    results.write(search, options.directory)
    last = [trial for trial in search.trials if trial.status != "RUNNING"][-FAILURES:]
    if search.best is None or all(trial.status == "FAILED" for trial in last):
        raise RuntimeError(
            f"{len(last)} trials failed in a row, which ends the search. The last "
            f"error: {last[-1].error if last else 'no trial was run'}"
        )
    page = report.write(search, options.directory)
    _print("\n".join(report.conclusions(search)))
    best, table = options.directory / "best.json", options.directory / "trials.csv"
    _print(f"wrote {best}, {table}, {page}")
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
