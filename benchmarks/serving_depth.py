"""Load beyond capacity, with and without `serve --early-exit auto`.

    python -m benchmarks.serving_depth saved_models/NAME FOLDER --image-size 32

An open loop over gRPC: requests with 32 labeled pictures arrive at random moments, at
multiples of the capacity, which is measured first, however many wait. Every answer is
compared with the label. Both servers are loaded in turns. Writes
benchmarks/results/serving_depth.csv.
"""

import argparse
import asyncio
import contextlib
import itertools
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from benchmarks.serving import serving
from benchmarks.small_pictures import in_memory
from benchmarks.tables import RESULTS, environment, write
from keras_inception import data
from keras_inception_cli.console import print_table

METHOD = "/tensorflow.serving.PredictionService/Predict"
PER_REQUEST = 32
SERVERS = {"as requested": (), "auto": ("--early-exit", "auto")}
SECONDS_TO_BE_GOOD = 1.0


class Answered(NamedTuple):
    """What came back for a request."""

    code: str
    seconds: float
    right: int  # of its pictures
    level: int


def main() -> None:
    """Measures the capacity, then loads both servers at its multiples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="exported with early exits")
    parser.add_argument("folder", help="its validation pictures are sent")
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 1, 1.5, 2, 3])
    parser.add_argument("--seconds", type=float, default=15, help="of each load")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "serving_depth.csv")
    options = parser.parse_args()
    source = data.find(options.folder)
    images, labels = in_memory(source, source.validation, options.image_size)
    requests = [
        (serialized(options.directory.name, images[rows]), labels[rows])
        for rows in batches_of(len(labels))
    ]
    rows = []
    with contextlib.ExitStack() as stack:
        addresses = {  # of which one is idle at a time
            name: stack.enter_context(server(options.directory, *words))
            for name, words in SERVERS.items()
        }
        capacity = asyncio.run(
            closed_loop(addresses["as requested"], requests, options.seconds)
        )
        print(f"capacity: {capacity:.1f} requests of {PER_REQUEST} pictures a second")
        for turn, load, name in itertools.product(
            range(options.rounds), options.loads, SERVERS
        ):
            rate = load * capacity
            found = asyncio.run(
                open_loop(addresses[name], requests, rate, options.seconds, turn)
            )
            row = {"load": load, "server": name, "round": turn + 1}
            row |= summary(found, options.seconds) | {"capacity": round(capacity, 1)}
            print(row, flush=True)
            rows.append(row | environment())
    write(options.out, rows)
    columns = list(rows[0])[:10]
    print_table([[row[key] for key in columns] for row in rows], columns)


def batches_of(count: int) -> np.ndarray:
    """Rows of random pictures for each request; the same in every run."""
    order = np.random.default_rng(0).permutation(count)
    return order[: count - count % PER_REQUEST].reshape(-1, PER_REQUEST)


def serialized(name: str, images: np.ndarray) -> bytes:
    """A request for main's answers."""
    request = PredictRequest()
    request.model_spec.name = name
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images.astype("float32")))
    return request.SerializeToString()


@contextlib.contextmanager
def server(directory: Path, *words: str) -> Iterator[str]:
    """Runs a server; yields gRPC's address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(directory, "--grpc-port", str(port), *words):
        yield f"127.0.0.1:{port}"


async def closed_loop(address: str, requests: list, seconds: float) -> float:
    """Requests a second that 8 clients get answered, each asking again at once."""
    answered = 0
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)

        async def client(first: int) -> None:
            nonlocal answered
            index = first
            while time.perf_counter() < end:
                await call(requests[index % len(requests)][0])
                answered += time.perf_counter() < end
                index += 8

        end = time.perf_counter() + 3  # to warm up
        await asyncio.gather(*map(client, range(8)))
        answered, end = 0, time.perf_counter() + seconds
        await asyncio.gather(*map(client, range(8)))
    return answered / seconds


async def open_loop(
    address: str, requests: list, rate: float, seconds: float, seed: int
) -> list[Answered]:
    """Sends requests at random moments, `rate` a second on average."""
    random = np.random.default_rng(seed)
    moments = np.cumsum(random.exponential(1 / rate, int(2 * rate * seconds)))
    moments = moments[moments < seconds]
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        for _ in range(10):  # to warm up
            await call(requests[0][0])

        async def ask(index: int, moment: float) -> tuple:
            await asyncio.sleep(start + moment - time.perf_counter())
            # From the moment that was meant: a late client hides a slow server.
            answering = call(requests[index % len(requests)][0])
            try:
                body = await answering
            except grpc.aio.AioRpcError as error:
                return error.code().name, elapsed(moment), b"", 0
            metadata = dict(await answering.trailing_metadata())
            level = int(metadata.get("early-exit-level", 0))
            return "OK", elapsed(moment), body, level

        def elapsed(moment: float) -> float:
            return time.perf_counter() - start - moment

        start = time.perf_counter() + 0.5
        came = await asyncio.gather(*map(ask, range(len(moments)), moments))
    found = []
    for index, (code, took, body, level) in enumerate(came):
        right = 0
        if body:
            outputs = PredictResponse.FromString(body).outputs
            answers = tf.make_ndarray(outputs["main"]).argmax(-1)
            right = int((answers == requests[index % len(requests)][1]).sum())
        found.append(Answered(code, took, right, level))
    return found


def summary(found: list[Answered], seconds: float) -> dict[str, object]:
    """A row: goodput, latency of the answers, their accuracy, refusals, levels."""
    good = [one for one in found if one.code == "OK"]
    took = [one.seconds for one in good]
    p50, p99 = np.quantile(took, (0.5, 0.99))
    levels = Counter(one.level for one in good)
    refused = Counter(one.code for one in found if one.code != "OK")
    within = sum(bool(one.seconds <= SECONDS_TO_BE_GOOD) for one in good)
    return {
        "sent": len(found),
        "refused": len(found) - len(good),
        "goodput": round(within / seconds, 1),
        "p50_ms": round(1e3 * float(p50), 1),
        "p99_ms": round(1e3 * float(p99), 1),
        "accuracy": round(
            sum(one.right for one in good) / (PER_REQUEST * len(good)), 4
        ),
        "mean_level": round(sum(k * n for k, n in levels.items()) / len(good), 2),
        "refusals": re.sub(r"[{}']", "", str(dict(refused))),
    }


if __name__ == "__main__":
    main()
