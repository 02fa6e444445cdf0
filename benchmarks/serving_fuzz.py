"""Fuzzes `keras-inception serve` with damaged requests or damaged pictures.

python -m benchmarks.serving_fuzz saved_models/digits requests --count 50000
python -m benchmarks.serving_fuzz saved_models/digits pictures --count 50000

Request number N of a seed is always the same. A finding is a request after which the
server crashes, does not answer within a minute, or answers 5xx, and memory that grows
by more than a tenth after the first 10,000; the bodies are saved in --findings.
"""

import argparse
import base64
import gzip
import io
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from benchmarks.serving import Server, pictures, request, serving

# fmt: off
STRANGE = [
    None, True, False, 0, -1, 1.5, 1e308, 16777217, 10**30, 2**31, 2**63, 2**64,
    10**308, 10**400, 1e400, -1e400, math.nan, "", "\0", "\ud800", "\udc00x", "é😀",
    "b64", "x" * 10_000, [], {}, [[]], [[], []], [[1], [2, 3]], [[1], 2], [None],
    {"b64": ""}, {"b64": "?"}, {"b64": "AA="}, {"b64": 1}, {"b64": "AA==", "x": 1},
    {"": 1}, {"images": []}, {"image_bytes": "x"}, {"inputs": [{"b64": "CgA="}]},
]
TOKENS = [
    b"NaN", b"-NaN", b"Inf", b"-Inf", b"Infinity", b"1e400", b"-0", b"01", b"1.", b"{}",
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\ud800", b"\\u0000", b"\xff",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\0", b"[" * 70 + b"]" * 70, b"[" * 3000,
    b'"instances":[1],', b'"inputs":"x",', b'"signature_name":"classify",', b'"b64":',
]
PATHS = [
    ":predict", ":classify", ":regress", ":PREDICT", "", "/metadata", "/versions/1",
    "/versions/1:predict", f"/versions/{2**64}:predict", "/labels/x:predict",
    "?x:predict", f"/versions/{'0' * 40}1:classify", "%00:predict", "%ff:predict",
]
SIGNATURES = ["serving_default", "serving_uint8", "serving_bytes", "classify", "none"]
# fmt: on


class Drawn(NamedTuple):
    """A request to send."""

    path: str
    body: bytes
    headers: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="saved_models/NAME")
    parser.add_argument("kind", choices=DRAW, help="what is damaged")
    parser.add_argument("--count", type=int, default=50_000, help="default: 50000")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--clients", type=int, default=8, help="default: 8")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    options = parser.parse_args()
    files = formats()
    statuses: Counter[str] = Counter()
    found: list[str] = []
    memory: list[float] = []
    step = min(10_000, options.count // 4 or 1)

    def fuzz(number: int, server: Server) -> None:
        if server.process.poll() is not None:
            return
        chance = random.Random(f"{options.kind} {options.seed} {number}")
        drawn = DRAW[options.kind](chance, files)
        try:
            status, _ = server.ask(drawn.body, drawn.path, 60, drawn.headers)
        except OSError as error:
            status = type(error).__name__
        statuses[str(status)] += 1
        if not isinstance(status, int) or status >= 500:
            name = f"{options.kind}-{options.seed}-{number}"
            found.append(f"{name}: {status} for {drawn.path}")
            options.findings.mkdir(exist_ok=True)
            (options.findings / name).write_bytes(drawn.body)
        if number % step == 0:
            memory.append(server.resident_mib())
            print(f"{number:,} sent, {memory[-1]:.0f} MiB", flush=True)

    with serving(options.directory, "--grpc-port", "0") as server:
        with ThreadPoolExecutor(options.clients) as pool:
            numbers = range(1, options.count + 1)
            list(pool.map(fuzz, numbers, itertools.repeat(server)))
        if (code := server.process.poll()) is not None:
            found.append(f"the server exited: {code}")
        else:
            status, _ = server.ask(request(files[0]))
            if status != 200:
                found.append(f"a good request afterwards: {status}")
    if memory and memory[-1] > 1.1 * memory[0]:
        found.append(f"memory grew from {memory[0]:.0f} to {memory[-1]:.0f} MiB")
    print(
        f"{statuses.total():,} {options.kind} of seed {options.seed}: {len(found)} "
        f"findings; statuses {dict(sorted(statuses.items()))}; MiB every {step:,} "
        f"{', '.join(f'{mib:.0f}' for mib in memory)}"
    )
    raise SystemExit("\n".join(found))


def formats() -> list[bytes]:
    """The same picture in the formats that TensorFlow knows, in several modes."""
    with Image.open(io.BytesIO(pictures(1)[0])) as opened:
        picture = opened.convert("RGB")
    files = []
    for kind in ("jpeg", "png", "gif", "bmp", "webp"):
        for mode in ("RGB", "L", "P", "RGBA", "CMYK", "I;16", "1"):
            file = io.BytesIO()
            try:
                picture.convert(mode).save(file, kind)
            except (OSError, ValueError):
                continue  # the format has no such mode
            files.append(file.getvalue())
    for options in ({"progressive": True}, {"restart_marker_rows": 1}):
        file = io.BytesIO()
        picture.save(file, "jpeg", **options)
        files.append(file.getvalue())
    file = io.BytesIO()
    picture.save(file, "gif", save_all=True, append_images=[picture.rotate(90)])
    return [*files, file.getvalue()]


def draw_picture(chance: random.Random, files: list[bytes]) -> Drawn:
    """A well-formed request with one to three pictures, the first one damaged."""
    chosen = [chance.choice(files) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
    chosen[0] = damaged(chance, chosen[0])
    kind = chance.randrange(4)
    content = json.loads(request(*chosen))
    listed = content["inputs"]["image_bytes"]
    if kind == 0:
        content = {"signature_name": "serving_bytes", "instances": listed}
    elif kind == 1:
        content = {"examples": [{"image_bytes": picture} for picture in listed]}
        content["signature_name"] = "classify"
        return Drawn(":classify", json.dumps(content).encode(), {})
    elif kind == 2:
        content = {"signature_name": "classify", "inputs": list(map(example, chosen))}
    return Drawn(":predict", json.dumps(content).encode(), {})


def draw_request(chance: random.Random, files: list[bytes]) -> Drawn:
    """A request with wrong values, text, examples, path or compression."""
    file = chance.choice(files)
    listed = [{"b64": base64.b64encode(file).decode()}]
    side = chance.choice((1, 2, 32))
    content: Any = chance.choice(
        (
            {"signature_name": "serving_bytes", "inputs": {"image_bytes": listed}},
            {"signature_name": "serving_bytes", "instances": listed},
            {"signature_name": "classify", "examples": [{"image_bytes": listed[0]}]},
            {"signature_name": "classify", "inputs": [example(file, chance)]},
            {"instances": [[[[0.5] * 3] * side] * side]},
            {"signature_name": "serving_uint8", "inputs": [[[[5] * 3] * side] * side]},
            {"inputs": {"images": nested(chance)}, "context": {"a": [1, 2.5, "x"]}},
            {"signature_name": chance.choice(SIGNATURES), "inputs": nested(chance)},
        )
    )
    path = ":classify" if "examples" in content else ":predict"
    if chance.random() < 0.2:
        path = chance.choice(PATHS)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        content = replaced(chance, content)
    body = json.dumps(content, ensure_ascii=chance.random() < 0.8).encode(
        "utf-8", "surrogatepass"
    )
    for _ in range(chance.choice((0, 0, 1, 2, 4))):
        at = chance.randrange(len(body) + 1)
        if body.startswith(b"{") and chance.random() < 0.3:
            at = 1  # where a key is
        body = body[:at] + chance.choice(TOKENS) + body[at:]
    if chance.random() < 0.25:
        body = damaged(chance, body)
    if chance.random() < 0.03:
        body = body.decode("utf-8", "replace").encode("utf-16")
    headers = {}
    if chance.random() < 0.1:
        headers, body = {"Content-Encoding": "gzip"}, gzip.compress(body, mtime=0)
        if chance.random() < 0.3:
            body = damaged(chance, body)
    return Drawn(path, body, headers)


DRAW: dict[str, Callable[[random.Random, list[bytes]], Drawn]] = {
    "requests": draw_request,
    "pictures": draw_picture,
}


def example(file: bytes, chance: random.Random | None = None) -> dict[str, str]:
    """A picture in a serialized `tf.Example`, which may have more than it should."""

    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        varint = b""
        while size > 127:
            varint, size = varint + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + varint + bytes([size]) + content

    kinds = [field(1, field(1, file))]
    features = b""
    if chance is not None:
        others = (kinds[0], field(3, field(1, b"\x01")), field(2, b"\x0a\x04abcd"), b"")
        kinds += chance.sample(others, chance.randrange(3))
        chance.shuffle(kinds)
    for name in (b"image_bytes", *([b"image_bytes"] if chance else [])):
        features += field(1, field(1, name) + field(2, b"".join(kinds)))
    serialized = field(1, features)
    if chance is not None and chance.random() < 0.5:
        serialized = damaged(chance, serialized)
    return {"b64": base64.b64encode(serialized).decode()}


def nested(chance: random.Random) -> Any:
    """A number, or lists of a shape that pictures may or may not have."""
    value: Any = chance.choice((1, 2.5, 255, "x", math.nan))
    for _ in range(chance.choice((0, 1, 2, 3, 4, 4, 4, 4, 5))):
        value = [value] * chance.choice((0, 1, 1, 2, 3, 3, 4, 32, 33))
    return value


def replaced(chance: random.Random, content: Any) -> Any:
    """JSON with one value replaced by a strange one, or one key renamed."""
    if not isinstance(content, (dict, list)) or not content or chance.random() < 0.2:
        return chance.choice(STRANGE)
    if isinstance(content, list):
        at = chance.randrange(len(content))
        return [*content[:at], replaced(chance, content[at]), *content[at + 1 :]]
    key = chance.choice(list(content))
    if chance.random() < 0.2:
        return {f"{k}x" if k == key else k: v for k, v in content.items()}
    return content | {key: replaced(chance, content[key])}


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Bytes with a few of them changed, truncated, doubled or deleted."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = data[at : at + chance.randrange(64)]
        elif kind == 4:
            del data[at : at + chance.randrange(64)]
        else:
            data[at:at] = chance.randbytes(chance.randrange(8))
    return bytes(data)


if __name__ == "__main__":
    main()
