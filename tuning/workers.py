"""KerasTuner's chief and its workers as processes of this machine."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_inception_cli.console import quiet_start

CHIEF = "chief"
LAUNCHED = "TUNING_LAUNCHED"
RESTARTS = 3  # of a worker in a row, none of whose trials came to an end in between


def launch(arguments: Sequence[str], count: int, directory: Path) -> int:
    """Runs a search with several workers until it ends.

    A worker whose process dies is started again under its old name, under which the
    chief gives it its old trial. A trial in which that happens twice is given up.

    Args:
        arguments: The words after `python -m tuning.search`.
        count: Number of workers; each gets an equal part of the cores, and of the GPUs
            that `CUDA_VISIBLE_DEVICES` names.
        directory: Where the search is kept; what the workers print goes to `logs/`.

    Returns:
        0, or the status with which the chief refused the search, having said why.

    Raises:
        RuntimeError: If the chief was killed, or a worker kept dying.
    """
    common = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": free_port(),
    }
    command = [sys.executable, "-m", "tuning.search", *arguments]
    logs = directory / "logs"
    processes, restarts, ended = {}, {}, {}
    given_up = []

    def start(name, own, cores, output):
        process = subprocess.Popen(
            command,
            env=os.environ
            | common
            | own
            | {"KERASTUNER_TUNER_ID": name, LAUNCHED: "1"},
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends
            stdout=output,
            stderr=output and subprocess.STDOUT,
        )
        if cores:
            os.sched_setaffinity(process.pid, cores)
        processes[name] = process

    def start_worker(name):
        own, cores = share(int(name.removeprefix("tuner")), count, os.environ)
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log:
            start(name, own, cores, log)

    try:
        start(CHIEF, {"CUDA_VISIBLE_DEVICES": "-1"}, None, None)
        for index in range(count):
            start_worker(f"tuner{index}")
        while set(processes) - {CHIEF}:
            time.sleep(0.2)
            status = processes[CHIEF].poll()
            if status == 0:
                break  # all is done; who is left is about to end, or came too late
            if status is not None and status > 0:
                return status
            if status is not None:
                raise RuntimeError(
                    f"the search's chief was killed ({status}). The same command goes "
                    "on with the search."
                )
            for name in sorted(set(processes) - {CHIEF}):
                status = processes[name].poll()
                if status is None:
                    continue
                processes.pop(name).stdin.close()
                if status == 0:
                    continue
                done = note_death(directory, name)
                same = ended.get(name) == done
                restarts[name] = restarts.get(name, 0) + 1 if same else 1
                ended[name] = done
                if restarts[name] > RESTARTS:
                    given_up.append(name)
                    continue
                print(f"{name} died ({status}); it starts again", file=sys.stderr)
                start_worker(name)
    finally:
        # the chief would wait twenty seconds before it ends; all is written
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()
            process.stdin.close()
    if given_up:
        raise RuntimeError(
            f"{', '.join(given_up)} died {RESTARTS + 1} times without finishing a "
            f"trial; see {logs}. The same command goes on with the search."
        )
    return 0


def share(
    index: int, count: int, environment: Mapping[str, str]
) -> tuple[dict[str, str], list[int] | None]:
    """A worker's part of the machine: variables of its own, and its cores.

    The cores are `None` where there are fewer than workers, or the system can't tell.

    Example:
    >>> share(1, 2, {"CUDA_VISIBLE_DEVICES": "0,1"})[0]
    {'CUDA_VISIBLE_DEVICES': '1'}
    """
    gpus = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    own = {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if len(gpus) > 1 else {}
    known = hasattr(os, "sched_getaffinity")
    cores = sorted(os.sched_getaffinity(0)) if known else []
    return own, cores[index::count] if len(cores) >= count else None


def note_death(directory: Path, worker: str) -> int:
    """Counts a worker's death in the trial it was in; returns its trials that ended."""
    with quiet_start():  # here, since it imports Keras, for which --help has no time
        from keras_inception.files import write_json
        from tuning.results import TRIALS, WORKER

    ended = 0
    for file in (directory / TRIALS).glob(f"*/{WORKER}"):
        known = json.loads(file.read_text())
        if known["worker"] == worker and known["ended"]:
            ended += 1
        elif known["worker"] == worker:
            write_json(file, known | {"deaths": known["deaths"] + 1})
    return ended


def end_with_the_launcher() -> None:
    """Lets this process end when the one that launched it does, even by a kill."""
    if not launched():
        return

    def wait():
        # not `sys.stdin`, whose lock, held here, aborts an interpreter that ends
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def launched() -> bool:
    """Whether `launch` started this process."""
    return LAUNCHED in os.environ


def role() -> str:
    """`"alone"`, `"chief"` or `"worker"`, by KerasTuner's variables."""
    if own_name() is None or "KERASTUNER_ORACLE_IP" not in os.environ:
        return "alone"
    return CHIEF if CHIEF in own_name() else "worker"


def own_name() -> str | None:
    """This process's, by KerasTuner's variables."""
    return os.environ.get("KERASTUNER_TUNER_ID")


def address_of_the_chief() -> str:
    """Where the chief listens, by KerasTuner's variables."""
    return ":".join(os.environ[f"KERASTUNER_ORACLE_{part}"] for part in ("IP", "PORT"))


def free_port() -> str:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
