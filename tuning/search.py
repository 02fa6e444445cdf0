"""Search where the auxiliary heads should sit and how much they should weigh.

The search is kept in DIR and goes on there when the same command is given again,
however it ended. DIR holds trials.csv, best.json (for keras-inception train
--hyperparameters), report.html, report.png, and trials/ for tensorboard --logdir.
"""

import argparse
import contextlib
import dataclasses
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_inception_cli import status_of
from keras_inception_cli.common import (
    DATA_HELP,
    add_augmentation_arguments,
    add_data_arguments,
    check_at_least,
    find_data,
    fitting_architecture,
    fitting_side,
    quiet_start,
    show_progress,
)
from tuning import workers

PROGRAM = "python -m tuning.search"
FROM_RECIPE = ("epochs", "batch_size", "learning_rate", "batch_norm", "augment")
# what `train` is told to train the best setting as the search did
OF_TRAIN = (
    "recipe",
    "epochs",
    "batch_size",
    "learning_rate",
    "batch_norm",
    "augment",
    "mirror",
    "architecture",
    "image_size",
    "width",
    "seed",
    "max_bad_fraction",
    "data_dir",
    "cache",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a search and returns the exit status.

    Args:
        arguments: The words after the program's name. Defaults to the process's own.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    options.given = [
        name for name in OF_TRAIN if getattr(options, name) != parser.get_default(name)
    ]
    return status_of("tuning.search", lambda: run(options, arguments))


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """A whole search, or with KerasTuner's variables one process's part of it."""
    workers.end_with_the_launcher()
    check_at_least(options, {"trials": 1, "executions": 1, "workers": 1, "heads": 1})
    if options.directory is None:
        options.directory = Path("runs") / f"tuning-{Path(options.data).name}"
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

        from keras_inception import data, training
        from tuning.hypermodel import HeadsHyperModel
        from tuning.oracles import oracle
        from tuning.tuner import HeadsTuner

    recipe = _recipe(options)
    source = find_data(options)
    if not len(source.validation):
        raise ValueError(
            f"{options.data} has no validation data: every picture of it is bad or "
            "missing, and the search compares settings by nothing else."
        )
    architecture = fitting_architecture(options.architecture, source)
    side = options.image_size or fitting_side(source, architecture)
    space, too_small = _space(options, architecture, side, recipe)
    if not options.width > 0:
        raise ValueError(f"--width must be above 0. Received: {options.width}")

    def pictures(seed, first_epoch):
        return data.load(
            source,
            side,
            recipe.batch_size,
            seed=seed,
            augment=recipe.augment,
            mirror=options.mirror,
            first_epoch=first_epoch,
        )

    tf.config.experimental.enable_op_determinism()
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
        "heads": options.heads,
        "tuner": options.tuner,
        "executions": options.executions,
        "seed": options.seed,
        "trials": options.trials,
    }
    chooses = workers.role() != "worker"
    with _kept(options, choices) if chooses else contextlib.nullcontext():
        made = oracle(
            options.tuner,
            space,
            trials=options.trials,
            epochs=recipe.epochs,
            seed=options.seed,
        )
        tuner = HeadsTuner(
            made,
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
            show=show_progress,
        )
        if not chooses:
            tuner.search()
            return
        print(_heading(choices, too_small), flush=True)
        if not made.end_order:
            tuner.check()
        else:
            print(f"going on: {len(made.end_order)} trials are done", flush=True)
        print(f"trial  {training.MONITOR}", flush=True)
        made.on_trial_end = lambda trial: _show_trial(options.directory, trial)
        try:
            tuner.search()
        except KeyboardInterrupt:
            show_progress("")
            print("interrupted: the same command goes on with the search", flush=True)
            raise
    if not workers.launched():  # else it is the launcher's matter
        _conclude(options)


def _recipe(options: argparse.Namespace):
    from keras_inception.training import RECIPES

    given = {
        name: getattr(options, name)
        for name in FROM_RECIPE
        if getattr(options, name) is not None
    }
    recipe = dataclasses.replace(RECIPES[options.recipe], **given)
    for name, value in (
        ("epochs", recipe.epochs),
        ("batch-size", recipe.batch_size),
    ):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1. Received: {value}")
    if not recipe.learning_rate > 0:
        raise ValueError(
            f"--learning-rate must be above 0. Received: {recipe.learning_rate}"
        )
    return recipe


def _space(options, architecture, side, recipe):
    from tuning.space import MOST_HEADS, Space, fitting_places

    places, too_small = fitting_places(architecture, side, options.places)
    if options.heads > MOST_HEADS:
        raise ValueError(
            f"--heads must be at most {MOST_HEADS}. Received: {options.heads}"
        )
    space = Space(
        places,
        options.heads,
        recipe.batch_norm,
        recipe.learning_rate if options.tune_learning_rate else None,
    )
    return space, too_small


@contextlib.contextmanager
def _kept(options: argparse.Namespace, choices: dict) -> Iterator[None]:
    """Within the block the search's directory is this process's, its choices written.

    Raises:
        ValueError: If the directory holds another search.
        FileExistsError: If it holds something else, or a process searches there.
    """
    from keras_inception.files import write_json
    from tuning.results import CHOICES, TRIALS

    directory, file = options.directory, options.directory / CHOICES
    entries = {path.name for path in directory.glob("[!.]*")}
    # which workers may make before the chief comes here
    if not file.is_file() and entries - {"logs", TRIALS}:
        raise FileExistsError(
            f"{directory} is there already and is no search; choose another "
            "--directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        _lock(lock, directory)
        if options.overwrite and file.is_file():
            for entry in directory.glob("[!.]*"):
                if entry.name != "logs":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if file.is_file():
            kept = json.loads(file.read_text())
            differs = [
                f"{name} {kept.get(name)!r}, not {value!r}"
                for name, value in json.loads(json.dumps(choices)).items()
                if name != "trials" and kept.get(name) != value
            ]
            if differs:
                raise ValueError(
                    f"{directory} holds a search with other choices: "
                    f"{'; '.join(differs)}. Give the same ones to go on with it, "
                    "--overwrite to delete it, or another --directory."
                )
        write_json(file, choices)
        yield


def _lock(file, directory: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise FileExistsError(
            f"Another process searches in {directory}; let it end, or end it."
        ) from None


def _heading(choices: dict, too_small: dict[str, int]) -> str:
    from tuning.settings import short

    side = choices["image_size"]
    lines = [
        f"{choices['name']}: {choices['train']} pictures to learn from, "
        f"{choices['validation']} held out, {choices['classes']} classes, "
        f"augmentation: {choices['augment']}",
        f"{choices['architecture']} at {side}x{side}, width {choices['width']:g}, "
        f"recipe {choices['recipe']}, {choices['epochs']} epochs",
        f"{choices['trials']} trials, {choices['tuner']}: up to {choices['heads']} "
        f"heads at {' '.join(map(short, choices['places']))}, {choices['executions']} "
        f"seed{'s' if choices['executions'] > 1 else ''} each",
    ]
    if too_small:
        places = ", ".join(f"{short(n)} ({s}x{s})" for n, s in too_small.items())
        lines.append(
            f"left out, since a head's pool needs a map of at least 5x5: {places}"
        )
    paper = {"inception_4a", "inception_4d"} - set(choices["places"])
    if paper or choices["heads"] < 2:
        lines.append("left out: the paper's setting, which this space does not hold")
    return "\n".join(lines)


def _show_trial(directory: Path, ended) -> None:
    """A line for a trial that ended, and the table with it."""
    from tuning import results

    search = results.read(directory)
    results.write(search, directory)
    trial = next(t for t in search.trials if t.number == int(ended.trial_id))
    figure = trial.figure if trial.status == "COMPLETED" else "failed"
    marks = [search.label(trial), "best" if trial == search.best else ""]
    show_progress("")
    print(
        f"{trial.number:>5}  {figure:<15}  {', '.join(filter(None, marks)):<14}  "
        f"{trial.setting.summary}  {trial.seconds:.0f} s  {trial.error}".rstrip(),
        flush=True,
    )


def _conclude(options: argparse.Namespace) -> None:
    """Writes what was found, and says it."""
    from tuning import report, results
    from tuning.oracles import FAILURES

    search = results.read(options.directory)
    results.write(search, options.directory)
    ended = [trial for trial in search.trials if trial.status != "RUNNING"]
    last = ended[-FAILURES:]
    if search.best is None or (
        len(last) == FAILURES and all(trial.status == "FAILED" for trial in last)
    ):
        raise RuntimeError(
            f"the search ended with {len(last)} trials that failed in a row, the last "
            f"of them: {last[-1].error if last else 'no trial ran'}"
        )
    page = report.write(search, options.directory)
    print("\n".join(search.conclusions()))
    best = options.directory / "best.json"
    print(f"wrote {best}, {options.directory / 'trials.csv'}, {page}")
    print(f"train it: {_train_command(options, best)}")


def _train_command(options: argparse.Namespace, best: Path) -> str:
    words = ["keras-inception", "train", str(options.data)]
    words += ["--hyperparameters", str(best)]
    for name in options.given:
        value, flag = getattr(options, name), name.replace("_", "-")
        if name == "learning_rate" and options.tune_learning_rate:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    search = parser.add_argument_group("the search")
    search.add_argument(
        "--trials",
        type=int,
        default=20,
        help="settings to try, the paper's and no heads included (default: 20); a "
        "larger number goes on with a search that has ended",
    )
    search.add_argument(
        "--tuner",
        choices=("bayesian", "hyperband", "random"),
        default="bayesian",
        help="(default: bayesian)",
    )
    search.add_argument(
        "--executions",
        type=int,
        default=1,
        metavar="SEEDS",
        help="seeds that each setting is trained with; their mean counts (default: 1)",
    )
    search.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes that train trials side by side (default: 1)",
    )
    search.add_argument(
        "--directory", type=Path, metavar="DIR", help="(default: runs/tuning-DATA)"
    )
    search.add_argument(
        "--overwrite", action="store_true", help="delete an earlier search in DIR"
    )
    search.add_argument("--seed", type=int, default=0, help="(default: 0)")
    space = parser.add_argument_group("what is searched")
    space.add_argument(
        "--places",
        nargs="+",
        metavar="ENDPOINT",
        help="where heads may hang (default: inception_3a to inception_5a)",
    )
    space.add_argument(
        "--heads", type=int, default=3, help="how many at most (default: 3)"
    )
    space.add_argument(
        "--tune-learning-rate",
        action="store_true",
        help="search the learning rate too, from a tenth to three times the recipe's",
    )
    how = parser.add_argument_group("how every trial is trained")
    how.add_argument(
        "--recipe",
        choices=("small", "paper", "caffe-quick"),
        default="small",
        help="(default: small)",
    )
    how.add_argument("--epochs", type=int, help="(small: 10)")
    how.add_argument("--batch-size", type=int, help="(small: 32)")
    how.add_argument("--learning-rate", type=float, help="at the start (small: 0.02)")
    how.add_argument(
        "--batch-norm",
        action=argparse.BooleanOptionalAction,
        help="batch normalisation in the network (small: on)",
    )
    how.add_argument(
        "--architecture",
        choices=("googlenet", "googlenet_small", "googlenet_torchvision"),
        help="(default: googlenet_small for pictures below 112 pixels, else googlenet)",
    )
    how.add_argument(
        "--image-size",
        type=int,
        help="side in pixels (default: 32 or 64 for small pictures, else 224)",
    )
    how.add_argument(
        "--width", type=float, default=1.0, help="times the filters (default: 1)"
    )
    pictures = parser.add_argument_group("the pictures")
    add_augmentation_arguments(pictures)
    add_data_arguments(pictures)
    return parser


if __name__ == "__main__":
    sys.exit(main())
