"""Load-tests `keras-inception serve`; some requests are bad, every answer is checked.

python -m benchmarks.serving_load saved_models/digits
python -m benchmarks.serving_load saved_models/googlenet saved_models/googlenet-int8 \
    --modes default --clients 8 --bad 0 --side 224

32 clients send 2,000 requests, 5 % of them malformed, huge, slow or cut off; with
batching (one batch or two at once) and without, alternating, to each model in turn.
Writes benchmarks/results/serving_load.csv.
"""

import argparse
import itertools
import json
import queue
import socket
import statistics
import struct
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.serving import Server, pictures, request, serving
from benchmarks.tables import environment, write
from keras_inception.export import versions
from keras_inception.export.signatures import DEFAULT, IMAGE_BYTES, ON_FILES
from keras_inception.server.servable import Servable

RESULTS = Path(__file__).parent / "results/serving_load.csv"
MODES = {
    "one batch": ("--batch-threads", "1"),
    "two batches": ("--batch-threads", "2"),
    "alone": ("--max-batch", "1"),
    "default": (),
}
# The statuses that each kind of bad request may get; None: no answer can be read
BAD = {
    "malformed": {400},
    "no picture": {400},
    "damaged": {400},
    "gigapixel": {413},
    "huge": {413},
    "slow": {200, 408},
    "cut off": {None},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "directories", type=Path, nargs="+", help="saved_models/NAME, of any runtime"
    )
    parser.add_argument(
        "--modes", nargs="+", choices=MODES, default=list(MODES)[:3], help="of batching"
    )
    parser.add_argument("--side", type=int, default=96, help="of a JPEG, in pixels")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument(
        "--bad",
        type=float,
        default=0.05,
        help="fraction of requests that are bad (default: 0.05)",
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="a CSV file")
    options = parser.parse_args()
    files = pictures(40, options.side)
    expected = {path: answers_of(path, files) for path in options.directories}
    about = {"clients": options.clients, "side": options.side} | environment()
    pairs = list(itertools.product(options.modes, options.directories))
    rows = []
    for turn in range(options.rounds):
        for mode, path in pairs:
            with serving(path, "--max-body", "1", *MODES[mode]) as server:
                load(server, files, expected[path], 200, options.clients, 0.0)  # warm
                row = load(
                    server,
                    files,
                    expected[path],
                    options.requests,
                    options.clients,
                    options.bad,
                )
            row |= {"statuses": json.dumps(row["statuses"]), "model": path.name}
            rows.append({"mode": mode, "round": turn + 1} | row | about)
            print(json.dumps(rows[-1]), flush=True)
    for mode, path in pairs:
        same = [r for r in rows if (r["mode"], r["model"]) == (mode, path.name)]
        rate = statistics.median(row["per_second"] for row in same)
        print(f"{path.name}, {mode}: {rate:.1f} good answers/s")
    write(options.out, rows)


def answers_of(directory: Path, files: list[bytes]) -> list[dict[str, float]]:
    """The exported model's answers without a server: class to score, by picture."""
    servable = Servable(directory / str(versions(directory)[-1]), None, 10**9)
    inputs = {IMAGE_BYTES: np.array(files, object)}
    answer = servable.predict(ON_FILES[DEFAULT], inputs)
    servable.close()
    rows = zip(answer["classes"], answer["scores"], strict=True)
    return [
        {name.decode(): float(score) for name, score in zip(*row, strict=True)}
        for row in rows
    ]


def load(
    server: Server,
    files: list[bytes],
    expected: list[dict[str, float]],
    count: int,
    clients: int,
    bad: float,
) -> dict:
    """Sends requests from many clients and checks every answer."""
    random = np.random.default_rng(1)
    kinds = list(BAD)
    work = queue.SimpleQueue()
    for index in range(count):
        kind = kinds[random.integers(len(kinds))] if random.random() < bad else "good"
        work.put((kind, index % len(files)))
    faults, latencies, statuses = [], [], Counter()
    memory = [server.resident_mib()]

    def client():
        while True:
            try:
                kind, which = work.get_nowait()
            except queue.Empty:
                return
            began = time.perf_counter()
            try:
                status, answer = SEND[kind](server, files[which])
            except OSError as error:
                status, answer = None, repr(error)
            statuses[f"{kind} {status}"] += 1
            if statuses.total() % (count // 4) == 0:
                memory.append(server.resident_mib())
            if kind == "good":
                latencies.append(time.perf_counter() - began)
                if status != 200 or not agrees(answer, expected[which]):
                    faults.append((kind, status, str(answer)[:200]))
            elif status not in BAD[kind]:
                faults.append((kind, status, str(answer)[:200]))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for fault in faults[:5]:
        print("FAULT", *fault)
    return {
        "requests": count,
        "seconds": round(seconds, 2),
        "per_second": round(len(latencies) / seconds, 1),
        "median_ms": round(1000 * statistics.median(latencies), 1),
        "p99_ms": round(1000 * float(np.quantile(latencies, 0.99)), 1),
        "faults": len(faults),
        "mib_by_quarter": " ".join(f"{mib:.0f}" for mib in memory),
        "statuses": dict(sorted(statuses.items())),
    }


def agrees(answer: bytes, expected: dict[str, float]) -> bool:
    """Whether an answer has the model's scores, in descending order."""
    outputs = json.loads(answer)["outputs"]
    classes, scores = outputs["classes"][0], outputs["scores"][0]
    return scores == sorted(scores, reverse=True) and all(
        abs(expected[name] - score) < 1e-4
        for name, score in zip(classes, scores, strict=True)
    )


def send_slow(server: Server, file: bytes) -> tuple[int, bytes]:
    """Sends a body in ten pieces over a second."""
    body = request(file)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(head(server, len(body)))
        step = len(body) // 10 + 1
        for at in range(0, len(body), step):
            client.sendall(body[at : at + step])
            time.sleep(0.1)
        return int(client.recv(4096).split()[1]), b""


def send_cut_off(server: Server, file: bytes) -> tuple[None, bytes]:
    """Closes the connection in the middle of the body."""
    body = request(file)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(head(server, len(body)) + body[: len(body) // 2])
    return None, b""


def head(server: Server, length: int) -> bytes:
    """The head of a request with a body of this length."""
    return (
        f"POST {server.path}:predict HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def gigapixel() -> bytes:
    """A PNG file of a few dozen bytes that declares 50,000 x 50,000 pixels."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    image = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + image + chunk(b"IEND", b"")


SEND = {
    "good": lambda server, file: server.ask(request(file)),
    "malformed": lambda server, file: server.ask(request(file)[:-20]),
    "no picture": lambda server, file: server.ask(request(b"words")),
    # its header is intact, so only decoding it, in a batch, finds the damage
    "damaged": lambda server, file: server.ask(request(file[: len(file) // 2])),
    "gigapixel": lambda server, file: server.ask(request(gigapixel())),
    "huge": lambda server, file: server.ask(b" " * (2 * 2**20)),
    "slow": send_slow,
    "cut off": send_cut_off,
}


if __name__ == "__main__":
    main()
