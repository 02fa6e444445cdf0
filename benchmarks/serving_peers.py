"""Compares `keras-inception serve` with LitServe and FastAPI, bytes to answer.

    python -m benchmarks.serving_peers PHOTOS PYTHON

PHOTOS is a folder of photographs, of which the eight nearest to 200 kB are asked for;
PYTHON is that of an environment with fastapi, uvicorn, litserve, onnxruntime and
pillow. Two networks: GoogLeNet on the photographs, and a small one on 32 pixels. Each
server gets base64 in JSON from 1, 8 and 32 clients, each with one connection that
stays, in turns, all other servers idle. The clients run on the same cores. Writes
benchmarks/results/serving_peers.csv.
"""

import argparse
import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

import keras_inception as ki
from benchmarks.serving import pictures, request, serving
from benchmarks.tables import RESULTS, environment, write

CLIENTS = (1, 8, 32)
BYTES = 200_000
APPS = Path(__file__).with_name("serving_peer_apps.py")
# Our servers: the runtime, and environment variables
OURS: dict[str, tuple[str, dict[str, str]]] = {
    "serve, TensorFlow": ("tensorflow", {}),
    "serve, TensorFlow, one thread each": (
        "tensorflow",
        {"TF_NUM_INTRAOP_THREADS": "1"},
    ),
    "serve, ONNX Runtime": ("onnx", {}),
}
PEERS = ("fastapi", "litserve", "litserve-batches")


class Peer(NamedTuple):
    """A server that runs: where to send which bodies."""

    name: str
    port: int
    path: str
    bodies: list[bytes]


def main() -> None:
    """Measures both networks and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of photographs")
    parser.add_argument("python", help="the Python of an environment with the peers")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3, help="of a turn")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--only", help="the network whose name contains this")
    parser.add_argument("--out", type=Path, default=RESULTS / "serving_peers.csv")
    options = parser.parse_args()
    every = [path for path in options.photos.rglob("*") if path.is_file()]
    every.sort(key=lambda path: abs(path.stat().st_size - BYTES))
    photos = [path.read_bytes() for path in every[:8]]
    keras.utils.set_random_seed(0)
    rows = []
    for name, model, files in (
        ("GoogLeNet, photographs", ki.GoogLeNet(), photos),
        ("small, 32 pixels", small_network(), pictures(8, 32)),
    ):
        if options.only and options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in compare(Path(folder), model, files, options):
                rows.append({"network": name} | row | environment())
                print(*list(rows[-1].values())[:8], flush=True)
    write(options.out, rows)


def small_network() -> keras.Model:
    """GoogLeNet for 32 pixels and ten classes, random weights."""
    return ki.GoogLeNet(
        (32, 32, 3), 10, architecture=ki.GOOGLENET_SMALL, width=0.25, batch_norm=True
    )


def compare(
    folder: Path,
    model: keras.Model,
    files: Sequence[bytes],
    options: argparse.Namespace,
) -> Iterator[dict]:
    """Measures all servers of one network, a row for each number of clients."""
    ki.export.export_saved_model(model, folder / "tensorflow")
    ki.export.export_format(model, folder / "onnx", "onnx")
    with contextlib.ExitStack() as stack:
        peers = []
        bodies = [request(file) for file in files]
        for name, (runtime, variables) in OURS.items():
            running_server = serving(
                folder / runtime, "--grpc-port", "0", environment=variables
            )
            server = stack.enter_context(running_server)
            peers.append(Peer(name, server.port, f"{server.path}:predict", bodies))
        bodies = [
            json.dumps({"b64": base64.b64encode(file).decode()}).encode()
            for file in files
        ]
        for kind in PEERS:
            port = stack.enter_context(
                running(options.python, kind, folder / "onnx" / "1" / "model.onnx")
            )
            peers.append(Peer(kind, port, "/predict", bodies))
        check_agreement(peers)
        for clients in options.clients:
            turns: dict[str, list] = {peer.name: [] for peer in peers}
            for turn in range(-1, options.rounds):
                for peer in peers[:: 1 if turn % 2 else -1]:
                    answered = ask(peer, clients, options.seconds)
                    if turn >= 0:  # the first warms up
                        turns[peer.name].append(answered)
            for name, of_server in turns.items():
                yield {"server": name, "clients": clients} | summary(of_server)


def summary(turns: Sequence[tuple[Sequence[float], float]]) -> dict:
    """Medians over the rounds."""
    rates = [len(latencies) / seconds for latencies, seconds in turns]
    rounds = [latencies for latencies, _ in turns]
    return {
        "per_second": round(statistics.median(rates), 1),
        "lowest": round(min(rates), 1),
        "highest": round(max(rates), 1),
        "p50_ms": round(1000 * statistics.median(map(statistics.median, rounds)), 1),
        "p99_ms": round(
            1000 * statistics.median(float(np.quantile(r, 0.99)) for r in rounds), 1
        ),
        "rounds": len(rounds),
    }


@contextlib.contextmanager
def running(python: str, kind: str, model: Path) -> Iterator[int]:
    """Runs a peer's server in another process while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [python, str(APPS), kind, str(model), str(port)],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(240):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port)),
            ):
                break
            if process.poll() is not None:
                sys.exit(f"{kind} ended with {process.returncode}")
            time.sleep(0.25)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with LitServe's worker processes
        process.wait()


def check_agreement(peers: Sequence[Peer]) -> None:
    """Stops unless all servers give the first picture nearly the same score."""
    best = {}
    for peer in peers:
        connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=60)
        with contextlib.closing(connection):
            answer = json.loads(post(connection, peer, 0))
        best[peer.name] = (
            answer["outputs"]["scores"][0][0]
            if "outputs" in answer
            else answer["scores"][0]
        )
    print(best, flush=True)
    if max(best.values()) > 1.2 * min(best.values()):  # they resize differently
        sys.exit("The servers disagree.")


def ask(peer: Peer, clients: int, seconds: float) -> tuple[list[float], float]:
    """Asks for some seconds, and waits for every answer.

    Returns the latencies, and the seconds until the last answer.
    """
    latencies: list[float] = []
    faults: list[BaseException] = []
    start = time.perf_counter()
    until = start + seconds

    def client(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=60)
        try:
            with contextlib.closing(connection):
                number = first
                while (began := time.perf_counter()) < until:
                    post(connection, peer, number)
                    latencies.append(time.perf_counter() - began)
                    number += 1
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return latencies, time.perf_counter() - start


def post(connection: http.client.HTTPConnection, peer: Peer, number: int) -> bytes:
    """Sends one of the bodies; the answer."""
    body = peer.bodies[number % len(peer.bodies)]
    connection.request(
        "POST", peer.path, body, headers={"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"{peer.name}: {response.status} {answer[:200]!r}")
    return answer


if __name__ == "__main__":
    main()
