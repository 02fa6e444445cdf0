"""A search's output while it runs: its heading, a line per trial, a progress bar."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from keras_inception_cli.console import progress_bar
from tuning import results
from tuning.results import Search
from tuning.settings import Setting, short


def heading(
    choices: Mapping[str, Any], too_small: Mapping[str, int], paper: Setting | None
) -> str:
    """The lines that describe a search before its first trial.

    Args:
        choices: The content of search.json.
        too_small: The side of the map at each endpoint that is too small for a head.
        paper: The paper's setting; `None` if the space does not contain it.
    """
    side = choices["image_size"]
    lines = [
        f"{choices['name']}: {choices['train']} training pictures, "
        f"{choices['validation']} validation pictures, {choices['classes']} classes, "
        f"augmentation: {choices['augment']}",
        f"{choices['architecture']} at {side}x{side}, width {choices['width']:g}, "
        f"recipe {choices['recipe']}, {choices['epochs']} epochs",
        f"{choices['trials']} trials, {choices['tuner']}: "
        f"up to {choices['most_heads']} heads "
        f"at {' '.join(map(short, choices['places']))}, "
        f"{results.seeds_of(choices)} each",
    ]
    if too_small:
        endpoints = ", ".join(f"{short(n)} ({s}x{s})" for n, s in too_small.items())
        lines.append(
            f"skipped, since a head's pool needs a map of at least 5x5: {endpoints}"
        )
    if paper is None:
        lines.append("skipped: the paper's setting, which is not in this space")
    return "\n".join(lines)


def search_bar() -> tqdm:
    """A bar that counts epochs and estimates the time left from their mean time."""
    bar = progress_bar("search", None, "epoch")
    bar.smoothing = 0
    bar.clear()
    return bar


def show_progress(bar: tqdm, search: Search, *, resumed: bool = False) -> None:
    """Sets the bar to the epochs done and to do, over all trials and executions.

    With `resumed` the epochs done so far do not count for the time left.
    """
    executions = search.choices["executions"]
    done = sum(trial.epochs * len(trial.accuracies) for trial in search.trials)
    left = sum(
        trial.epochs * (executions - len(trial.accuracies))
        for trial in search.trials
        if trial.status == "RUNNING"
    )
    # Hyperband's trials differ in length: those to come count as an average one.
    epochs = [trial.epochs for trial in search.trials] or [search.choices["epochs"]]
    coming = search.choices["trials"] - len(search.trials)
    left += round(coming * executions * sum(epochs) / len(epochs))
    bar.n, bar.total = done, done + left
    if resumed:
        bar.initial = done
    bar.refresh()


def finish_trial(directory: Path, number: int, bar: tqdm, stream: TextIO) -> None:
    """Prints the line of a trial that ended, and updates trials.csv and best.json."""
    search = results.read(directory)
    results.write(search, directory)
    trial = next(t for t in search.trials if t.number == number)
    figure = trial.figure if trial.status == "COMPLETED" else "failed"
    best = search.best
    label = search.label(trial) or ("best so far" if trial == best else "")
    compared = "" if best is None else f"best {best.accuracy:.4f}"
    bar.clear()
    print(
        f"{trial.number:>5}  {figure:<15}  {compared}  {label:<11}  "
        f"{trial.setting.summary}, {trial.seconds:.0f} s  {trial.error}".rstrip(),
        file=stream,
        flush=True,
    )
    show_progress(bar, search)
