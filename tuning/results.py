"""The trials of a search, read from its directory, and how noisy they are.

The noise comes from seeds: the same setting trained with another seed gives another
accuracy. With one seed for each setting it is unknown.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from keras_inception.files import read_json, write_csv, write_json
from keras_inception.schema import Count, Seconds
from keras_inception.training import MONITOR
from tuning.settings import HEAD_FIELDS, RATE, Setting, paper_setting, setting_of

# Names in a search's directory.
CHOICES = "search.json"
TRIALS = "trials"
WORKER = "worker.json"  # in a trial's: the worker that trains it, and how often it died


class Choices(TypedDict):
    """The fields of search.json that the results depend on."""

    epochs: Count
    batch_norm: bool
    learning_rate: float
    tune_learning_rate: bool
    executions: Count
    trials: Count


class Values(TypedDict):
    """The values of a trial, as KerasTuner writes them."""

    values: dict[str, Any]


class TrialState(TypedDict):
    """A trial.json of KerasTuner, as far as it is read here."""

    trial_id: str
    hyperparameters: Values
    status: str


class WorkerState(TypedDict):
    """A trial's worker.json."""

    worker: str
    deaths: Count
    ended: bool


class Execution(TypedDict):
    """The result.json of an execution, as far as it is read here."""

    val_main_accuracy: float
    seconds: Seconds


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting and its accuracies."""

    number: int  # counted from 0 in the order of the search
    setting: Setting
    status: str  # "COMPLETED", "RUNNING" or "FAILED"
    accuracies: tuple[float, ...] = ()  # the best `MONITOR` of each finished execution
    epochs: int = 0  # of each execution
    seconds: float = 0.0  # of all finished executions together
    error: str = ""  # why the trial failed

    @property
    def accuracy(self) -> float:
        """The mean over the executions."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; `None` for a single one."""
        several = len(self.accuracies) > 1
        return statistics.stdev(self.accuracies) if several else None

    @property
    def figure(self) -> str:
        """The accuracy for people, with its spread."""
        spread = "" if self.spread is None else f" ± {self.spread:.4f}"
        return f"{self.accuracy:.4f}{spread}"


@dataclasses.dataclass(frozen=True)
class Search:
    """A search, finished or not."""

    choices: dict[str, Any]  # the content of search.json
    trials: tuple[Trial, ...]  # in their order

    @property
    def finished(self) -> list[Trial]:
        """The completed trials that were trained for all epochs.

        Trials that Hyperband stopped after a few epochs are not comparable.
        """
        done = [trial for trial in self.trials if trial.status == "COMPLETED"]
        most = max((trial.epochs for trial in done), default=0)
        return [trial for trial in done if trial.epochs == most]

    @property
    def best(self) -> Trial | None:
        """The most accurate finished trial, the earliest if several are equal."""
        return max(self.finished, key=lambda trial: trial.accuracy, default=None)

    @property
    def paper(self) -> Trial | None:
        """The finished trial with the paper's setting."""
        return self._trial_of(paper_setting(self.choices["batch_norm"], self._rate))

    @property
    def no_heads(self) -> Trial | None:
        """The finished trial without heads, at the recipe's learning rate."""
        return self._trial_of(Setting({}, learning_rate=self._rate))

    @property
    def _rate(self) -> float | None:
        tuned = self.choices["tune_learning_rate"]
        return self.choices["learning_rate"] if tuned else None

    def _trial_of(self, setting: Setting) -> Trial | None:
        wanted = setting.hyperparameters
        found = (t for t in self.finished if t.setting.hyperparameters == wanted)
        return next(found, None)

    def label(self, trial: Trial) -> str:
        """`"paper"` and `"no heads"` for the two references, else empty."""
        if trial == self.paper:
            return "paper"
        return "no heads" if trial == self.no_heads else ""

    @property
    def noise(self) -> float | None:
        """Standard deviation between seeds of one setting, pooled over all settings.

        `None` if no setting was trained with several seeds.
        """
        squares = [t.spread**2 for t in self.finished if t.spread is not None]
        return math.sqrt(statistics.fmean(squares)) if squares else None

    @property
    def detectable_difference(self) -> float | None:
        """Smallest difference between two settings that is rarely chance (1 in 20).

        Two standard deviations of the difference between two means over the seeds.
        """
        if self.noise is None:
            return None
        return 2 * self.noise * math.sqrt(2 / self.choices["executions"])

    @property
    def selection_bias(self) -> float | None:
        """Expected lead of the best over the mean if all settings were equally good.

        The expected maximum of as many normal draws of the noise (Blom 1958).
        """
        count = len(self.finished)
        if self.noise is None or count < 2:
            return None
        maximum = statistics.NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
        return maximum * self.noise / math.sqrt(self.choices["executions"])


def seeds_of(choices: Mapping[str, Any]) -> str:
    """The number of seeds for each setting: `"1 seed"`, `"3 seeds"`."""
    count = choices["executions"]
    return f"{count} seed{'s' if count > 1 else ''}"


def read(directory: str | Path) -> Search:
    """Reads a search, finished or not."""
    directory = Path(directory)
    if not (directory / CHOICES).is_file():
        raise FileNotFoundError(
            f"{directory} does not hold a search: it has no {CHOICES}, which "
            "python -m tuning.search writes."
        )
    fault = "is not the search.json of a search"
    choices = read_json(directory / CHOICES, Choices, fault)
    files = directory.glob(f"{TRIALS}/*/trial.json")
    trials = [_read_trial(file, choices) for file in files]
    return Search(choices, tuple(sorted(trials, key=lambda trial: trial.number)))


def _read_trial(path: Path, choices: dict[str, Any]) -> Trial:
    fault = "is not the trial.json of a search"
    state = read_json(path, TrialState, fault)
    values = state["hyperparameters"]["values"]
    try:
        setting = setting_of(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} {fault}: its values make no setting "
            f"({type(error).__name__}: {error})."
        ) from None
    files = sorted(
        path.parent.glob("execution_*/result.json"),
        key=lambda file: int(file.parent.name.removeprefix("execution_")),
    )
    executions = [read_execution(file) for file in files]
    failure = path.with_name("error.json")
    return Trial(
        int(state["trial_id"]),
        setting,
        state["status"],
        tuple(execution["val_main_accuracy"] for execution in executions),
        values.get("tuner/epochs", choices["epochs"]),
        sum(execution["seconds"] for execution in executions),
        read_json(failure, {"error": str})["error"] if failure.is_file() else "",
    )


def read_execution(file: Path) -> Execution:
    """Reads the result.json of an execution."""
    result: Execution = read_json(file, Execution, "is not the result.json of a run")
    return result


def write(search: Search, directory: str | Path) -> None:
    """Writes `trials.csv`, and `best.json` once a trial is finished."""
    directory = Path(directory)
    table = rows(search)
    columns = list(table[0]) if table else ["trial"]
    write_csv(directory / "trials.csv", columns, [list(r.values()) for r in table])
    best = search.best
    if best is not None:
        content = {
            "hyperparameters": best.setting.hyperparameters,
            "trial": best.number,
            MONITOR: best.accuracy,
            "spread": best.spread,
            "accuracies": list(best.accuracies),
            "paper": search.paper and search.paper.accuracy,
            "no_heads": search.no_heads and search.no_heads.accuracy,
            "noise": search.noise,
            "search": search.choices,
        }
        write_json(directory / "best.json", content)


def rows(search: Search) -> list[dict[str, object]]:
    """The trials as a table: columns and cells of `trials.csv`."""
    return [
        {
            "trial": trial.number,
            "what": search.label(trial),
            "status": trial.status.lower(),
            MONITOR: f"{trial.accuracy:.4f}" if trial.accuracies else "",
            "spread": "" if trial.spread is None else f"{trial.spread:.4f}",
            "accuracies": " ".join(map("{:.4f}".format, trial.accuracies)),
            "places": trial.setting.endpoints,
            "weights": " ".join(map("{:g}".format, trial.setting.weights)),
            **{field.name: "" for field in (*HEAD_FIELDS, RATE)},
            **{field.name: value for field, value in trial.setting.effective},
            "epochs": trial.epochs,
            "seconds": round(trial.seconds, 1),
            "error": trial.error,
        }
        for trial in search.trials
    ]
