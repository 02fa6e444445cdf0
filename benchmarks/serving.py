"""What the benchmarks of the server share: a server process, requests, pictures.

Everything stays on this machine: the server listens on 127.0.0.1, on a port of its own.
"""

import base64
import contextlib
import http.client
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Server(NamedTuple):
    """A running `keras-inception serve`.

    Attributes:
        process: Of the server.
        port: On 127.0.0.1.
        path: Of the model, `/v1/models/NAME`.
    """

    process: subprocess.Popen
    port: int
    path: str

    def ask(self, body: bytes, path: str = ":predict", seconds: float = 60):
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request("POST", self.path + path, body)
            response = connection.getresponse()
            return response.status, response.read()

    def resident_mib(self) -> float:
        """Memory of the process that is in RAM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


@contextlib.contextmanager
def serving(directory: Path, *options: str) -> Iterator[Server]:
    """A server in a process of its own, stopped afterwards."""
    words = [sys.executable, "-m", "keras_inception_cli", "serve", str(directory)]
    process = subprocess.Popen(
        [*words, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libjpeg tells of every damaged picture
        text=True,
    )
    try:
        lines = "".join(process.stdout.readline() for _ in range(3))
        port, path = re.search(r":(\d+)(/v1/models/[^:]+):predict", lines).groups()
        yield Server(process, int(port), path)
    finally:
        process.terminate()
        process.wait(60)


def request(*files: bytes) -> bytes:
    """A predict request about picture files."""
    encoded = [{"b64": base64.b64encode(file).decode()} for file in files]
    return json.dumps(
        {"signature_name": "serving_bytes", "inputs": {"image_bytes": encoded}}
    ).encode()


def pictures(count: int, side: int = 96) -> list[bytes]:
    """JPEG files of coloured blocks, each another."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(count):
        blocks = random.integers(0, 256, (6, 6, 3)).astype("uint8")
        file = io.BytesIO()
        Image.fromarray(blocks).resize((side, side), Image.NEAREST).save(file, "jpeg")
        files.append(file.getvalue())
    return files
