"""What a search has found, read from its directory, and how much of it is noise."""

import csv
import dataclasses
import json
import math
import statistics
from pathlib import Path

from keras_inception.files import write_json, write_whole
from keras_inception.training import MONITOR
from tuning.settings import Setting, paper_setting, setting_of

# below a search's directory
CHOICES = "search.json"
TRIALS = "trials"
WORKER = "worker.json"  # of a trial: who trains it, and how often that one died


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting and what came of it.

    Attributes:
        number: Counted from 0 in the order of the search.
        setting: What was tried.
        status: `"COMPLETED"`, `"RUNNING"` or `"FAILED"`.
        accuracies: Best `val_main_accuracy` of each execution that is finished.
        epochs: How long each was trained.
        seconds: How long all of them took.
        error: Why it failed, else empty.
    """

    number: int
    setting: Setting
    status: str
    accuracies: tuple[float, ...] = ()
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def accuracy(self) -> float:
        """The mean over the executions."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; `None` for a single one."""
        if len(self.accuracies) < 2:
            return None
        return statistics.stdev(self.accuracies)

    @property
    def figure(self) -> str:
        """The accuracy for people, with its spread."""
        spread = "" if self.spread is None else f" ± {self.spread:.4f}"
        return f"{self.accuracy:.4f}{spread}"


@dataclasses.dataclass(frozen=True)
class Search:
    """A search's choices and trials.

    Attributes:
        choices: What `search.json` holds.
        trials: All of them, in their order.
    """

    choices: dict
    trials: tuple[Trial, ...]

    @property
    def finished(self) -> list[Trial]:
        """The trials that were completed, trained for all the epochs.

        What Hyperband gave up after a few epochs can't be compared with the rest.
        """
        done = [trial for trial in self.trials if trial.status == "COMPLETED"]
        most = max((trial.epochs for trial in done), default=0)
        return [trial for trial in done if trial.epochs == most]

    @property
    def best(self) -> Trial | None:
        """The most accurate trial; of equals the first."""
        return max(self.finished, key=lambda trial: trial.accuracy, default=None)

    @property
    def paper(self) -> Trial | None:
        """The trial with the paper's setting."""
        rate = self.choices["learning_rate"]
        paper = paper_setting(
            self.choices["batch_norm"],
            rate if self.choices["tune_learning_rate"] else None,
        )
        return self._with(paper.hyperparameters)

    @property
    def bare(self) -> Trial | None:
        """The first trial without heads, at the recipe's learning rate."""
        rate = self.choices["learning_rate"]
        bare = Setting(
            {}, learning_rate=rate if self.choices["tune_learning_rate"] else None
        )
        return self._with(bare.hyperparameters)

    def _with(self, hyperparameters: dict) -> Trial | None:
        for trial in self.finished:
            if trial.setting.hyperparameters == hyperparameters:
                return trial
        return None

    def label(self, trial: Trial) -> str:
        """`"paper"` and `"no heads"` for what the others are compared with."""
        if trial == self.paper:
            return "paper"
        return "no heads" if trial == self.bare else ""

    @property
    def noise(self) -> float | None:
        """Standard deviation between seeds of one setting, over all settings.

        `None` if no setting had more than one.
        """
        spreads = [t.spread for t in self.finished if t.spread is not None]
        if not spreads:
            return None
        return math.sqrt(statistics.fmean(spread**2 for spread in spreads))

    @property
    def telling(self) -> float | None:
        """What two settings must differ by to be told apart, 19 times in 20.

        Two standard deviations of the difference between two means over the seeds.
        """
        if self.noise is None:
            return None
        return 2 * self.noise * math.sqrt(2 / self.choices["executions"])

    @property
    def luck(self) -> float | None:
        """How far the best would stand above the mean if no setting mattered.

        The expected maximum of as many draws of nothing but noise (Blom 1958).
        """
        count = len(self.finished)
        if self.noise is None or count < 2:
            return None
        maximum = statistics.NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
        return maximum * self.noise / math.sqrt(self.choices["executions"])

    def conclusions(self) -> list[str]:
        """What can be said of the search, and what can't, in sentences."""
        best = self.best
        if best is None:
            return ["No trial is finished."]
        seeds = len(best.accuracies)
        said = [
            f"The best of {len(self.finished)} settings is trial {best.number} "
            f"({best.setting.summary}): {best.figure}"
            + (f" over {seeds} seeds." if seeds > 1 else " with one seed.")
        ]
        references = (("the paper's setting", self.paper), ("no heads", self.bare))
        said += [
            f"{name.capitalize()}: {trial.figure}."
            for name, trial in references
            if trial is not None
        ]
        if self.noise is None:
            return [
                *said,
                "With one seed for each setting nothing tells a difference between "
                "settings from chance: ask for several with --executions.",
            ]
        said.append(
            f"Seeds alone make one setting's accuracy vary by {self.noise:.4f} "
            "(standard deviation), so two settings that differ by less than "
            f"{self.telling:.4f} are not told apart here."
        )
        for name, trial in references:
            if trial is None or trial == best:
                continue
            ahead = best.accuracy - trial.accuracy
            said.append(
                f"The best is {ahead:.4f} ahead of {name}: "
                + ("more" if ahead > self.telling else "not more")
                + " than that."
            )
        mean = statistics.fmean(trial.accuracy for trial in self.finished)
        said.append(
            f"It was chosen for being the best, which flatters it: if no setting "
            f"mattered, the best of {len(self.finished)} would by luck stand about "
            f"{self.luck:.4f} above their mean; it stands {best.accuracy - mean:.4f} "
            "above. A fair figure comes from training it with new seeds."
        )
        return said


def read(directory: str | Path) -> Search:
    """Reads a search, finished or not.

    Raises:
        FileNotFoundError: If the directory holds none.
    """
    directory = Path(directory)
    if not (directory / CHOICES).is_file():
        raise FileNotFoundError(
            f"There is no search in {directory}: it has no {CHOICES}, which "
            "python -m tuning.search writes."
        )
    choices = json.loads((directory / CHOICES).read_text())
    trials = [
        _trial(path, choices) for path in directory.glob(f"{TRIALS}/*/trial.json")
    ]
    return Search(choices, tuple(sorted(trials, key=lambda trial: trial.number)))


def write(search: Search, directory: str | Path) -> None:
    """Writes `trials.csv`, and `best.json` as soon as there is a best."""
    directory = Path(directory)
    write_whole(directory / "trials.csv", lambda partial: _write_csv(search, partial))
    best = search.best
    if best is None:
        return
    write_json(
        directory / "best.json",
        {
            "hyperparameters": best.setting.hyperparameters,
            "trial": best.number,
            MONITOR: best.accuracy,
            "spread": best.spread,
            "accuracies": list(best.accuracies),
            "paper": search.paper and search.paper.accuracy,
            "no_heads": search.bare and search.bare.accuracy,
            "noise": search.noise,
            "search": search.choices,
        },
    )


def rows(search: Search) -> list[dict[str, object]]:
    """The trials as a table."""
    return [
        {
            "trial": trial.number,
            "what": search.label(trial),
            "status": trial.status.lower(),
            MONITOR: f"{trial.accuracy:.4f}" if trial.accuracies else "",
            "spread": "" if trial.spread is None else f"{trial.spread:.4f}",
            "accuracies": " ".join(f"{one:.4f}" for one in trial.accuracies),
            "places": trial.setting.places,
            "weights": " ".join(f"{w:g}" for w in trial.setting.heads.values()),
            "schedule": trial.setting.schedule if trial.setting.heads else "",
            "head_dropout": trial.setting.head_dropout if trial.setting.heads else "",
            "head_width": trial.setting.head_width if trial.setting.heads else "",
            "head_batch_norm": trial.setting.head_batch_norm
            if trial.setting.heads
            else "",
            "learning_rate": trial.setting.learning_rate or "",
            "epochs": trial.epochs,
            "seconds": round(trial.seconds, 1),
            "error": trial.error,
        }
        for trial in search.trials
    ]


def _trial(path: Path, choices: dict) -> Trial:
    state = json.loads(path.read_text())
    values = state["hyperparameters"]["values"]
    results = [
        json.loads(file.read_text())
        for file in sorted(
            path.parent.glob("execution_*/result.json"),
            key=lambda file: int(file.parent.name.removeprefix("execution_")),
        )
    ]
    error = path.with_name("error.json")
    return Trial(
        int(state["trial_id"]),
        setting_of(values),
        state["status"],
        tuple(result[MONITOR] for result in results),
        values.get("tuner/epochs", choices["epochs"]),
        sum(result["seconds"] for result in results),
        json.loads(error.read_text())["error"] if error.is_file() else "",
    )


def _write_csv(search: Search, path: Path) -> None:
    table = rows(search)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0] if table else ["trial"])
        writer.writeheader()
        writer.writerows(table)
