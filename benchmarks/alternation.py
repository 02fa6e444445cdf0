"""Measures candidates in turns, each in its own process.

TensorFlow, PyTorch and the runtimes compete for threads in one process. Here every
candidate keeps its own process, and all but the measured one are stopped (SIGSTOP),
spinning threads included. The turns of a round are seconds apart, so that other work on
the machine affects all candidates alike; ratios are taken within a round.
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
        name: Name in the tables.
        setup: `module:function`, called in the candidate's process; it returns the
            function to measure, which takes the batch size.
        arguments: Keyword arguments of `setup`, JSON values.
        environment: Environment variables, added to those of this process.
    """

    name: str
    setup: str
    arguments: Mapping = {}
    environment: Mapping[str, str] = {}


# For `Candidate.environment`: the GNU C library then keeps freed memory. By default it
# returns large blocks to the system, which fills them with zeros before the next use.
FREED_MEMORY_KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_ARENA_MAX": "1",
}


class Turn(NamedTuple):
    """The work of every candidate in a round.

    Attributes:
        batch: The batch size.
        calls: Number of calls; if there are several the first is not counted.
    """

    batch: int
    calls: int = 1


def in_turns(
    candidates: Sequence[Candidate], turns: Sequence[Turn], rounds: int
) -> list[dict]:
    """Measures all candidates.

    Args:
        candidates: Before the first round each is set up and called once with every
            batch size.
        turns: The turns of a round in their order; all candidates do each of them.
        rounds: Number of rounds.

    Returns:
        A row for each candidate and batch size: the candidate's name, `batch`,
        `first_s` (setup and the first call), median and quartiles of the milliseconds
        per call, `idle_mb` (memory of the whole process after setup), `peak_mb` (its
        peak during the rounds) and `seconds` (the median of each round, for ratios).
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
            worker.reset_peak()
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
    """Each row's speed relative to the peer: the median of the rounds' ratios."""
    peer_seconds = {
        row["batch"]: row["seconds"] for row in rows if row["candidate"] == peer
    }
    return [
        round(
            statistics.median(
                theirs / own
                for theirs, own in zip(
                    peer_seconds[row["batch"]], row["seconds"], strict=True
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
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 read if it fails
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.alternation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | candidate.environment,
        )
        self._send({"setup": candidate.setup, "arguments": dict(candidate.arguments)})
        self._receive()
        self.setup_s = time.perf_counter() - began
        self.idle_mb = self.memory_mb("VmRSS")
        self.process.send_signal(signal.SIGSTOP)

    def ask(self, batch: int, calls: int) -> list[float]:
        """Lets the process work; returns the seconds of each call."""
        self.process.send_signal(signal.SIGCONT)
        self._send({"batch": batch, "calls": calls})
        seconds = self._receive()
        self.process.send_signal(signal.SIGSTOP)
        return seconds

    def reset_peak(self) -> None:
        """Resets the process's peak memory (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def memory_mb(self, kind: str) -> float:
        """The process's memory now (`"VmRSS"`) or its peak (`"VmHWM"`)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+)", status).group(1)) / 1024

    def _send(self, message: dict) -> None:
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def _receive(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.name} failed: {self.errors.read()[-2000:]}")
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
    """Runs a candidate's process: reads a request per line, writes an answer."""
    # Libraries print to stdout too, so the answers get a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message) -> None:
        print(json.dumps(message), file=answers, flush=True)

    request = json.loads(sys.stdin.readline())
    module, function = request["setup"].split(":")
    call = getattr(importlib.import_module(module), function)(**request["arguments"])
    answer("ready")
    for line in sys.stdin:
        request, seconds = json.loads(line), []
        for _ in range(request["calls"]):
            began = time.perf_counter()
            call(request["batch"])
            seconds.append(time.perf_counter() - began)
        answer(seconds)


if __name__ == "__main__":
    main()
