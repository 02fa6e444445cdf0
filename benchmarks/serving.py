"""A server process, requests and pictures for the benchmarks of the server.

The server listens on 127.0.0.1 only, on a free port.
"""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image


class Server(NamedTuple):
    """A running `keras-inception serve`.

    Attributes:
        process: The server's process.
        port: Its port on 127.0.0.1.
        path: The model's path, `/v1/models/NAME`.
    """

    process: subprocess.Popen
    port: int
    path: str

    def ask(
        self,
        body: bytes,
        path: str = ":predict",
        seconds: float = 60,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, bytes]:
        """Sends a request on a new connection; returns its status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request("POST", self.path + path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def resident_mib(self) -> float:
        """The process's resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


@contextlib.contextmanager
def serving(
    directory: Path,
    *options: str,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Runs a server in another process, with more variables, while the block runs."""
    words = [sys.executable, "-m", "keras_inception_cli", "serve", str(directory)]
    process = subprocess.Popen(
        [*words, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libjpeg reports every damaged picture
        text=True,
        env={**os.environ, **environment},
    )
    try:
        lines = "".join(process.stdout.readline() for _ in range(3))
        port, path = re.search(r":(\d+)(/v1/models/[^:]+):predict", lines).groups()
        yield Server(process, int(port), path)
    finally:
        process.terminate()
        process.wait(60)


def request(*files: bytes) -> bytes:
    """The body of a predict request for picture files."""
    encoded = [{"b64": base64.b64encode(file).decode()} for file in files]
    return json.dumps(
        {"signature_name": "serving_bytes", "inputs": {"image_bytes": encoded}}
    ).encode()


def pictures(count: int, size: int = 96) -> list[bytes]:
    """JPEG files of colored blocks, each different."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(count):
        blocks = random.integers(0, 256, (6, 6, 3)).astype("uint8")
        file = io.BytesIO()
        Image.fromarray(blocks).resize((size, size), Image.NEAREST).save(file, "jpeg")
        files.append(file.getvalue())
    return files
