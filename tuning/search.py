"""Search where the auxiliary heads should sit and how much they should weigh.

The search is kept in DIR and goes on there when the same command is given again,
however it ended. DIR holds trials.csv, best.json (for keras-inception train
--hyperparameters), report.html, report.png, and trials/ for tensorboard --logdir.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_inception_cli import status_of
from keras_inception_cli.console import quiet_start, show_status
from keras_inception_cli.data_options import find_data
from tuning import options as command_line
from tuning import workers


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a search and returns the exit status.

    Args:
        arguments: The words after the program's name. Defaults to the process's own.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = command_line.parse(arguments, __doc__)
    return status_of("tuning.search", lambda: run(options, arguments))


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """A whole search, or with KerasTuner's variables one process's part of it."""
    workers.end_with_the_launcher()
    command_line.check(options)
    if options.workers == 1 or workers.role() != "alone":
        _search(options)
        return 0
    status = workers.launch(arguments, options.workers, options.directory)
    if status == 0:
        _conclude(options)
    return status


def _search(options: argparse.Namespace) -> None:
    with quiet_start():
        import tensorflow as tf

        from keras_inception import ARCHITECTURES, data
        from keras_inception.defaults import default_architecture, default_input_size
        from tuning.crash_safe_oracles import oracle
        from tuning.directory import kept
        from tuning.hypermodel import HeadsHyperModel
        from tuning.space import Space, fitting_places
        from tuning.tuner import HeadsTuner

    recipe = command_line.recipe(options)
    source = find_data(options)
    if not len(source.validation):
        raise ValueError(
            f"{options.data} has no validation data: every picture of it is bad or "
            "missing, and the search compares settings by nothing else."
        )
    architecture = ARCHITECTURES.get(
        options.architecture, default_architecture(source.picture_size)
    )
    side = options.image_size or default_input_size(architecture, source.picture_size)
    places, too_small = fitting_places(architecture, side, options.places)
    space = Space(
        places,
        options.most_heads,
        recipe.batch_norm,
        recipe.learning_rate if options.tune_learning_rate else None,
    )

    def pictures(seed: int, first_epoch: int) -> data.Data:
        return data.load(
            source,
            side,
            recipe.batch_size,
            seed=seed,
            augment=recipe.augment,
            mirror=options.mirror,
            first_epoch=first_epoch,
        )

    def tuner() -> HeadsTuner:
        return HeadsTuner(
            oracle(
                options.tuner,
                space,
                trials=options.trials,
                epochs=recipe.epochs,
                seed=options.seed,
            ),
            HeadsHyperModel(
                space,
                len(source.class_names),
                side,
                architecture,
                steps_per_epoch=-(-len(source.train) // recipe.batch_size),
                width=options.width,
                recipe=recipe,
            ),
            options.directory,
            pictures,
            seed=options.seed,
            executions=options.executions,
            show=show_status,
        )

    tf.config.experimental.enable_op_determinism()
    if workers.role() == "worker":
        with _no_stray_numbers():
            working = tuner()
        name, chief = workers.own_name(), workers.address_of_the_chief()
        _tell(f"{name} works for the chief at {chief}")
        with _no_stray_numbers():
            working.search()
        _tell("nothing is left to do")
        return
    choices = {
        "data": str(options.data),
        "name": source.name,
        "train": len(source.train),
        "validation": len(source.validation),
        "classes": len(source.class_names),
        "architecture": architecture.name,
        "image_size": side,
        "width": options.width,
        "recipe": options.recipe,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "tune_learning_rate": options.tune_learning_rate,
        "batch_norm": recipe.batch_norm,
        "augment": pictures(options.seed, 0).augmentation,
        "mirror": options.mirror,
        "places": list(space.places),
        "most_heads": options.most_heads,
        "tuner": options.tuner,
        "executions": options.executions,
        "seed": options.seed,
        "trials": options.trials,
    }
    with kept(options.directory, choices, overwrite=options.overwrite):
        _tell(_heading(choices, too_small, paper=space.paper is not None))
        _run_trials(tuner(), options.directory)
        if not workers.launched():  # else it is the launcher's matter
            _conclude(options)


def _run_trials(tuner, directory: Path) -> None:
    """Runs or, as the chief, hands out what is left of a search's trials."""
    from keras_inception.training import MONITOR

    chooses = tuner.oracle
    if not chooses.end_order:
        tuner.check()
    else:
        _tell(f"going on: {len(chooses.end_order)} trials are done")
    _tell(f"trial  {MONITOR}")
    stream = sys.stdout
    chooses.on_trial_end = lambda trial: _show_trial(directory, trial, stream)
    try:
        with _no_stray_numbers():
            tuner.search()
    except KeyboardInterrupt:
        show_status("")
        _tell("interrupted: the same command goes on with the search")
        raise


@contextlib.contextmanager
def _no_stray_numbers():
    """Holds back what KerasTuner 1.4.8 prints of what chief and workers exchange."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _heading(choices: dict, too_small: dict[str, int], *, paper: bool) -> str:
    from tuning.settings import short

    side, seeds = choices["image_size"], choices["executions"]
    lines = [
        f"{choices['name']}: {choices['train']} pictures to learn from, "
        f"{choices['validation']} held out, {choices['classes']} classes, "
        f"augmentation: {choices['augment']}",
        f"{choices['architecture']} at {side}x{side}, width {choices['width']:g}, "
        f"recipe {choices['recipe']}, {choices['epochs']} epochs",
        f"{choices['trials']} trials, {choices['tuner']}: "
        f"up to {choices['most_heads']} heads "
        f"at {' '.join(map(short, choices['places']))}, "
        f"{seeds} seed{'s' if seeds > 1 else ''} each",
    ]
    if too_small:
        places = ", ".join(f"{short(n)} ({s}x{s})" for n, s in too_small.items())
        lines.append(
            f"left out, since a head's pool needs a map of at least 5x5: {places}"
        )
    if not paper:
        lines.append("left out: the paper's setting, which this space does not hold")
    return "\n".join(lines)


def _show_trial(directory: Path, ended, stream) -> None:
    """A line for a trial that ended, and the table with it."""
    from tuning import results

    search = results.read(directory)
    results.write(search, directory)
    trial = next(t for t in search.trials if t.number == int(ended.trial_id))
    figure = trial.figure if trial.status == "COMPLETED" else "failed"
    best = search.best
    what = search.label(trial) or ("best so far" if trial == best else "")
    compared = "" if best is None else f"best {best.accuracy:.4f}"
    show_status("")
    print(
        f"{trial.number:>5}  {figure:<15}  {compared}  {what:<11}  "
        f"{trial.setting.summary}, {trial.seconds:.0f} s  {trial.error}".rstrip(),
        file=stream,
        flush=True,
    )


def _conclude(options: argparse.Namespace) -> None:
    """Writes what was found, and says it."""
    with quiet_start():
        from tuning import report, results
        from tuning.crash_safe_oracles import FAILURES

    search = results.read(options.directory)
    results.write(search, options.directory)
    ended = [trial for trial in search.trials if trial.status != "RUNNING"]
    last = ended[-FAILURES:]
    if search.best is None or all(trial.status == "FAILED" for trial in last):
        raise RuntimeError(
            f"{len(last)} trials failed in a row, which ends the search; the last of "
            f"them: {last[-1].error if last else 'none was run'}"
        )
    page = report.write(search, options.directory)
    _tell("\n".join(search.conclusions()))
    best = options.directory / "best.json"
    _tell(f"wrote {best}, {options.directory / 'trials.csv'}, {page}")
    _tell(f"train it: {command_line.train_command(options, best)}")


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
