"""KerasTuner's chief and its workers as processes of this machine."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from keras_inception_cli.console import quiet_start

CHIEF = "chief"
LAUNCHED = "TUNING_LAUNCHED"  # an environment variable of the processes of `launch`
RESTARTS = 3  # of a worker in a row, without a finished trial in between


def launch(arguments: Sequence[str], count: int, directory: Path) -> int:
    """Runs a search with several workers until it ends.

    A worker that dies is restarted under its old name, and the chief gives it its old
    trial. A trial in which a worker dies twice fails. The workers' output goes to
    `logs/` in the search's directory.

    Returns:
        0, or the exit status of a chief that printed an error.
    """
    launcher = _Launcher(arguments, count, directory)
    try:
        launcher.start(CHIEF, {"CUDA_VISIBLE_DEVICES": "-1"})
        for index in range(count):
            launcher.start_worker(f"tuner{index}")
        status = None
        while launcher.workers and status is None:
            launcher.restart_dead_workers()
            time.sleep(0.2)
            status = launcher.processes[CHIEF].poll()
    finally:  # workers that still run have nothing to do
        launcher.stop()
    if status is not None and status < 0:
        raise RuntimeError(
            f"The search's chief was killed ({status}). Run the same command again to "
            "resume."
        )
    if status:
        return status
    if launcher.given_up:
        raise RuntimeError(
            f"{', '.join(launcher.given_up)} died {RESTARTS + 1} times without "
            f"finishing a trial; see {launcher.logs}. Run the same command again to "
            "resume."
        )
    return 0


class _Launcher:
    def __init__(self, arguments: Sequence[str], count: int, directory: Path):
        self.command = [sys.executable, "-m", "tuning.search", *arguments]
        self.count = count
        self.directory = directory
        self.logs = directory / "logs"
        with socket.socket() as probe:  # finds a port on which no process listens
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        oracle = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
        self.variables = os.environ | oracle | {LAUNCHED: "1"}
        self.processes: dict[str, subprocess.Popen] = {}
        self.deaths: dict[str, tuple[int, int]] = {}
        self.given_up: list[str] = []

    @property
    def workers(self) -> set[str]:
        return set(self.processes) - {CHIEF}

    def start(self, name: str, variables: dict, output: BinaryIO | None = None) -> None:
        self.processes[name] = subprocess.Popen(
            self.command,
            env={**self.variables, **variables, "KERASTUNER_TUNER_ID": name},
            stdin=subprocess.PIPE,  # closes when this process ends, even by a kill
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
        )

    def start_worker(self, name: str) -> None:
        index = int(name.removeprefix("tuner"))
        variables, cores = share_of_machine(index, self.count, os.environ)
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            self.start(name, variables, log)
        if cores:
            os.sched_setaffinity(self.processes[name].pid, cores)

    def restart_dead_workers(self) -> None:
        for name in sorted(self.workers):
            status = self.processes[name].poll()
            if status is not None:
                self.processes.pop(name).communicate()  # closes its input
            if not status:
                continue
            # the deaths since the worker last finished a trial
            ended = record_death(self.directory, name)
            before, deaths = self.deaths.get(name, (ended, 0))
            deaths = deaths + 1 if before == ended else 1
            self.deaths[name] = ended, deaths
            if deaths > RESTARTS:
                self.given_up.append(name)
            else:
                print(f"{name} died ({status}) and is restarted", file=sys.stderr)
                self.start_worker(name)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()  # the chief would wait 20 s; its files are complete
        for process in self.processes.values():
            process.communicate()  # waits, and closes its input


def share_of_machine(
    index: int, count: int, environment: Mapping[str, str]
) -> tuple[dict[str, str], list[int] | None]:
    """A worker's equal part of the machine: its environment variables and its cores.

    The cores are `None` if they are fewer than workers, or unknown to the system.
    """
    gpus = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    several = len(gpus) > 1
    variables = {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if several else {}
    reported = hasattr(os, "sched_getaffinity")
    cores = sorted(os.sched_getaffinity(0)) if reported else []
    return variables, cores[index::count] if len(cores) >= count else None


def record_death(directory: Path, worker: str) -> int:
    """Counts a worker's death in its trial; returns how many trials it has ended."""
    with quiet_start():  # imports Keras, for which --help should not wait
        from keras_inception.files import read_json, write_json
        from tuning.results import TRIALS, WORKER, WorkerState

    ended = 0
    for file in (directory / TRIALS).glob(f"*/{WORKER}"):
        known = read_json(file, WorkerState)
        if known["worker"] == worker:
            ended += known["ended"]
            if not known["ended"]:
                write_json(file, known | {"deaths": known["deaths"] + 1})
    return ended


def exit_with_launcher() -> None:
    """Makes this process exit when its launcher does, even if that is killed."""
    if LAUNCHED not in os.environ:
        return

    def wait() -> None:
        # Not `sys.stdin`: its lock, held here, would abort the interpreter at its end.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def role() -> Literal["alone", "chief", "worker"]:
    """This process's role, by KerasTuner's environment variables."""
    name = os.environ.get("KERASTUNER_TUNER_ID")
    if name is None or "KERASTUNER_ORACLE_IP" not in os.environ:
        return "alone"
    return "chief" if CHIEF in name else "worker"
