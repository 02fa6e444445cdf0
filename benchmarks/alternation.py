"""Candidates in turns, each in a process of its own.

TensorFlow, PyTorch and the runtimes fight for threads in one process. Here every
candidate is set up in its own, kept alive, and told in turn to do its work; all others
are stopped meanwhile (SIGSTOP), their spinning threads included. What one round asks of
all lies seconds apart, so that other work on the machine meets all alike: ratios are
taken within a round.
"""

import contextlib
import importlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Candidate(NamedTuple):
    """Something to measure.

    Attributes:
        name: In the tables.
        setup: `module:function`, called in the candidate's process; it returns what is
            measured, a function of the batch size.
        arguments: Of `setup`, as JSON can hold them.
        environment: Variables of the process, beside this one's.
    """

    name: str
    setup: str
    arguments: Mapping = {}
    environment: Mapping[str, str] = {}


# For `Candidate.environment`: the GNU C library then keeps what is freed, where it
# would hand large blocks back and get them again filled with zeros, page by page.
FREED_MEMORY_KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_ARENA_MAX": "1",
}


class Turn(NamedTuple):
    """What is asked of every candidate in a round.

    Attributes:
        batch: The batch size.
        calls: How many in a turn; the first is not counted where there are more.
    """

    batch: int
    calls: int = 1


def in_turns(
    candidates: Sequence[Candidate], turns: Sequence[Turn], rounds: int
) -> list[dict]:
    """Measures all candidates; a row for each of them and each batch size.

    Args:
        candidates: Each is set up, and has answered every batch size once, before the
            first round.
        turns: Of a round, in this order; within each, all candidates.
        rounds: How many.

    Returns:
        Rows with the candidate's name, `batch`, `first_s` (setting up and the first
        call of any batch size), median and quartiles of the milliseconds per call,
        `idle_mb` (of the whole process when it was set up, before any call), `peak_mb`
        (the same while it repeated, after all first calls) and `seconds`, a list with
        the median of each round, for ratios.
    """
    with contextlib.ExitStack() as stack:
        workers = {}
        for candidate in candidates:
            worker = stack.enter_context(_worker(candidate))
            workers[candidate.name] = worker
            began = time.perf_counter()
            for turn in turns:
                worker.ask(turn.batch, 1)
                if turn is turns[0]:
                    first = worker.setup_s + time.perf_counter() - began
            worker.first_s = first
            worker.ask(turns[0].batch, 1)
            worker.forget_peak()
            print(f"{candidate.name:<32} ready after {first:.1f} s", flush=True)
        seconds = {(name, turn.batch): [] for turn in turns for name in workers}
        for number in range(rounds):
            for turn in turns:
                for name, worker in workers.items():
                    taken = worker.ask(turn.batch, turn.calls + (turn.calls > 1))
                    taken = taken[1:] or taken
                    seconds[name, turn.batch].append(statistics.median(taken))
            print(f"round {number + 1} of {rounds}", flush=True)
        peaks = {name: worker.memory_mb("VmHWM") for name, worker in workers.items()}
        return [
            {
                "candidate": name,
                "batch": batch,
                "rounds": rounds,
                "first_s": round(workers[name].first_s, 2),
                **_milliseconds(values),
                "pictures_per_second": round(batch / statistics.median(values), 1),
                "idle_mb": round(workers[name].idle_mb),
                "peak_mb": round(peaks[name]),
                "seconds": values,
            }
            for (name, batch), values in seconds.items()
        ]


def ratios(rows: list[dict], peer: str) -> list[float]:
    """How many times as fast as the peer each row is: median of the rounds' ratios."""
    of_peer = {row["batch"]: row["seconds"] for row in rows if row["candidate"] == peer}
    return [
        round(
            statistics.median(
                theirs / own
                for theirs, own in zip(
                    of_peer[row["batch"]], row["seconds"], strict=True
                )
            ),
            2,
        )
        for row in rows
    ]


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {
        "median_ms": round(1000 * middle, 2),
        "lower_quartile_ms": round(1000 * low, 2),
        "upper_quartile_ms": round(1000 * high, 2),
    }


class _Worker:
    def __init__(self, candidate: Candidate):
        began = time.perf_counter()
        self.name = candidate.name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 read when it ends
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.alternation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | candidate.environment,
        )
        self._say({"setup": candidate.setup, "arguments": dict(candidate.arguments)})
        self._hear()
        self.setup_s = time.perf_counter() - began
        self.idle_mb = self.memory_mb("VmRSS")
        self.process.send_signal(signal.SIGSTOP)

    def ask(self, batch: int, calls: int) -> list[float]:
        """Lets the process work; the seconds of each call."""
        self.process.send_signal(signal.SIGCONT)
        self._say({"batch": batch, "calls": calls})
        seconds = self._hear()
        self.process.send_signal(signal.SIGSTOP)
        return seconds

    def forget_peak(self) -> None:
        """Lets the process's peak memory begin anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def memory_mb(self, kind: str) -> float:
        """What the process takes (`"VmRSS"`), or took at most (`"VmHWM"`)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+)", status).group(1)) / 1024

    def _say(self, message: dict) -> None:
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def _hear(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.name} ended: {self.errors.read()[-2000:]}")
        return json.loads(line)


@contextlib.contextmanager
def _worker(candidate: Candidate) -> Iterator[_Worker]:
    worker = _Worker(candidate)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()


def main() -> None:
    """A candidate's process: sets up, then answers line by line."""
    # libraries print to 1 as well; the answers have a descriptor of their own
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message) -> None:
        print(json.dumps(message), file=answers, flush=True)

    order = json.loads(sys.stdin.readline())
    module, function = order["setup"].split(":")
    call = getattr(importlib.import_module(module), function)(**order["arguments"])
    answer("ready")
    for line in sys.stdin:
        order, seconds = json.loads(line), []
        for _ in range(order["calls"]):
            began = time.perf_counter()
            call(order["batch"])
            seconds.append(time.perf_counter() - began)
        answer(seconds)


if __name__ == "__main__":
    main()
