"""Overloads a server for minutes while versions come and go and some requests are bad.

python -m benchmarks.serving_versions saved_models/digits

Measures how many requests a second 32 waiting clients get answered, then sends twice as
many for 10 minutes, whether or not they are answered in time; 5 % are bad. Meanwhile 30
versions are dropped into the directory and removed. Prints memory and threads after
each version, and a verdict. It exits with 1 if an answer was wrong, a status was one
that no limit promises, or memory grew by 10 %.
"""

import argparse
import itertools
import json
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.serving import Server, pictures, serving
from benchmarks.serving_load import BAD, SEND, agrees, answers_of
from keras_inception.export import versions

UNDER_WAY = 4  # requests of a client that may wait for their answers at once
PROMISED = {503, 504}  # by --max-queue and --timeout


class Load:
    """Requests of many clients, good and bad ones, and what came of them."""

    def __init__(self, server: Server, files: list[bytes], expected: list[dict]):
        self.statuses: Counter[str] = Counter()
        self.faults: list[tuple] = []
        self.most_late = 0.0  # seconds that a request was sent after its time
        self._server, self._files, self._expected = server, files, expected

    def run(self, times: Iterator[float], threads: int, bad: float) -> float:
        """Sends a request at each of some times; returns the seconds that it took."""
        began, lock, random = (
            time.monotonic(),
            threading.Lock(),
            np.random.default_rng(1),
        )

        def client() -> None:
            while True:
                with lock:
                    at = next(times, None)
                    drawn = random.random(), *random.integers(0, (len(BAD), 10**6))
                if at is None:
                    return
                delay = began + at - time.monotonic()
                time.sleep(max(0, delay))
                self.most_late = max(self.most_late, -delay)
                kind = list(BAD)[drawn[1]] if drawn[0] < bad else "good"
                self._send(kind, drawn[2] % len(self._files))

        pool = [threading.Thread(target=client) for _ in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        return time.monotonic() - began

    def _send(self, kind: str, which: int) -> None:
        try:
            status, answer = SEND[kind](self._server, self._files[which])
        except OSError as error:
            status, answer = None, repr(error)
        self.statuses[f"{kind} {status}"] += 1
        right = status in (BAD | {"good": {200}})[kind] | PROMISED
        if kind == "good" and status == 200:
            right = agrees(answer, self._expected[which])
        if not right:
            self.faults.append((kind, status, str(answer)[:200]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="saved_models/NAME")
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="default: 10")
    add("--versions", type=int, default=30, help="that come and go (default: 30)")
    add("--clients", type=int, default=32, help="default: 32")
    add("--overload", type=float, default=2, help="times the capacity (default: 2)")
    add("--bad", type=float, default=0.05, help="fraction of requests (default: 0.05)")
    options = parser.parse_args()
    files, seconds = pictures(40), 60 * options.minutes
    expected = answers_of(options.directory, files)
    source = options.directory / str(versions(options.directory)[-1])
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        shutil.copytree(source, directory / "1")
        with serving(directory, "--grpc-port", "0", "--max-body", "1") as server:
            warm = Load(server, files, expected)
            warm.run(iter([0.0] * 200), options.clients, 0.0)
            until = time.monotonic() + min(10, seconds / 4)
            now = itertools.repeat(0.0)  # they wait for nothing but their answers
            closed = Load(server, files, expected)
            took = closed.run(
                itertools.takewhile(lambda _: time.monotonic() < until, now),
                options.clients,
                0.0,
            )
            capacity = closed.statuses["good 200"] / took
            print(f"{capacity:.0f} requests/s from waiting clients", flush=True)
            rate = options.overload * capacity
            load = Load(server, files, expected)
            times = iter(np.arange(0, seconds, 1 / rate).tolist())
            arguments = (times, UNDER_WAY * options.clients, options.bad)
            sending = threading.Thread(target=load.run, args=arguments)
            sending.start()
            began, rows = time.monotonic(), []
            for number in range(2, options.versions + 2):
                at = began + (number - 2) * seconds / (options.versions + 2)
                time.sleep(max(0, at - time.monotonic()))
                shutil.copytree(source, directory / "partial")
                (directory / "partial").rename(directory / str(number))
                wait_for(server, number)
                shutil.rmtree(directory / str(number - 1))
                rows.append((server.resident_mib(), threads_of(server)))
                memory, count = rows[-1]
                at = time.monotonic() - began
                print(
                    f"{at:.0f} s, {number}: {memory:.0f} MiB, {count} threads",
                    flush=True,
                )
            sending.join()
            end = server.resident_mib()
    fifth = rows[min(4, len(rows) - 1)][0]
    growth = max(end, rows[-1][0]) / fifth - 1
    faults = warm.faults + closed.faults + load.faults
    for fault in faults[:5]:
        print("FAULT", *fault)
    holds = not faults and growth <= 0.1
    print(json.dumps(dict(sorted(load.statuses.items()))))
    print(
        f"{'HOLDS' if holds else 'FAILS'}: {load.statuses.total():,} requests at "
        f"{rate:.0f}/s, at most {load.most_late:.1f} s late; {len(faults)} wrong; "
        f"{len(rows)} versions; memory {growth:+.1%} since the fifth"
    )
    return int(not holds)


def wait_for(server: Server, number: int) -> None:
    """Waits until a version is available and the one before has ended."""
    url = f"http://127.0.0.1:{server.port}{server.path}"
    while True:
        with urllib.request.urlopen(url) as response:
            status = json.load(response)["model_version_status"]
        states = {int(entry["version"]): entry["state"] for entry in status}
        if states.get(number) == "AVAILABLE" and states.get(number - 1) == "END":
            return
        assert states.get(number) != "END", status
        time.sleep(0.1)


def threads_of(server: Server) -> int:
    """The number of the server's threads."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"Threads:\s+(\d+)", status).group(1))


if __name__ == "__main__":
    sys.exit(main())
