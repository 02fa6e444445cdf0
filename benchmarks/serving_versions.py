"""Drops versions into a served directory and removes them, under load.

python -m benchmarks.serving_versions saved_models/digits

8 clients ask all the time while 30 versions come and go. Prints the server's memory and
threads after each, and exits with 1 if an answer was wrong or memory grew by 10 %.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from benchmarks.serving import Server, pictures, request, serving
from benchmarks.serving_load import agrees, answers_of
from keras_inception.export import versions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="saved_models/NAME")
    parser.add_argument("--versions", type=int, default=30)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    files = pictures(40)
    expected = answers_of(options.directory, files)
    source = options.directory / str(versions(options.directory)[-1])
    done, faults, answers = threading.Event(), [], []
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        shutil.copytree(source, directory / "1")
        with serving(directory, "--grpc-port", "0") as server:

            def client(index: int) -> None:
                while not done.is_set():
                    index = (index + 1) % len(files)
                    status, answer = server.ask(request(files[index]))
                    answers.append(status)
                    if status != 200 or not agrees(answer, expected[index]):
                        faults.append((status, answer[:200]))

            threads = [
                threading.Thread(target=client, args=(index,))
                for index in range(options.clients)
            ]
            for thread in threads:
                thread.start()
            rows = []
            try:
                for number in range(2, options.versions + 2):
                    shutil.copytree(source, directory / "partial")
                    (directory / "partial").rename(directory / str(number))
                    wait_for(server, number)
                    shutil.rmtree(directory / str(number - 1))
                    rows.append((server.resident_mib(), threads_of(server)))
                    memory, count = rows[-1]
                    print(f"{number}: {memory:.0f} MiB, {count} threads", flush=True)
            finally:
                done.set()
                for thread in threads:
                    thread.join()
    fifth = rows[min(4, len(rows) - 1)][0]
    growth = rows[-1][0] / fifth - 1
    print(
        f"{len(answers)} answers, {len(faults)} wrong; memory {growth:+.1%}",
        *faults[:3],
    )
    return int(bool(faults) or growth > 0.1)


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
