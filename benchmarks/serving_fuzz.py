"""Fuzzes `keras-inception serve` with damaged JSON and damaged pictures.

python -m benchmarks.serving_fuzz saved_models/digits --seconds 300

A finding is a request after which the server crashes, does not answer, or answers 5xx;
it is saved in --findings.
"""

import argparse
import io
import json
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.serving import pictures, request, serving

STRANGE = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        1e308,
        1e400,
        -1e400,
        float("nan"),
        2**63,
        10**400,
    ),
    *(
        "",
        "\0",
        "\ud800",
        "é",
        "b64",
        "x" * 10_000,
        [],
        {},
        [[]],
        [[], []],
        [[1], [2, 3]],
    ),
    *({"b64": ""}, {"b64": "?"}, {"b64": 1}, {"b64": "AA==", "x": 1}, {"": 1}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="saved_models/NAME")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first client (default: 0)"
    )
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    options = parser.parse_args()
    files = formats()
    statuses = Counter()
    end = time.monotonic() + options.seconds
    with serving(options.directory) as server:
        before = server.resident_mib()

        def fuzz(seed: int) -> int:
            chance, found = random.Random(seed), 0
            while time.monotonic() < end and server.process.poll() is None:
                method, body = draw(chance, files)
                try:
                    status, _ = server.ask(body, f":{method}", seconds=60)
                except OSError as error:
                    status = type(error).__name__
                statuses[str(status)] += 1
                if not isinstance(status, int) or status >= 500:
                    found += 1
                    options.findings.mkdir(exist_ok=True)
                    (options.findings / f"{method}-{seed}-{found}").write_bytes(body)
            return found

        with ThreadPoolExecutor(options.clients) as pool:
            seeds = range(options.seed, options.seed + options.clients)
            found = sum(pool.map(fuzz, seeds))
        if server.process.poll() is not None:
            raise SystemExit(f"the server exited: {server.process.returncode}")
        status, _ = server.ask(request(files[0]))
        after = server.resident_mib()
    print(
        f"{statuses.total():,} requests in {options.seconds:.0f} s, "
        f"{found} findings; statuses {dict(sorted(statuses.items()))}; a good request "
        f"afterwards: {status}; memory {before:.0f} -> {after:.0f} MiB"
    )
    raise SystemExit(1 if found or status != 200 else 0)


def formats() -> list[bytes]:
    """The same picture as JPEG, PNG, GIF and BMP, in several modes."""
    with Image.open(io.BytesIO(pictures(1)[0])) as opened:
        picture = opened.convert("RGB")
    files = []
    for kind in ("jpeg", "png", "gif", "bmp", "webp"):
        for mode in ("RGB", "L", "P", "RGBA", "CMYK"):
            file = io.BytesIO()
            try:
                picture.convert(mode).save(file, kind)
            except (OSError, ValueError):
                continue  # the format has no such mode
            files.append(file.getvalue())
    file = io.BytesIO()
    picture.save(file, "jpeg", progressive=True)
    return [*files, file.getvalue()]


def draw(chance: random.Random, files: list[bytes]) -> tuple[str, bytes]:
    """A random method, and a body in which something is damaged."""
    damage_file = chance.random() < 0.5
    chosen = [chance.choice(files) for _ in range(chance.choice((1, 1, 2)))]
    if damage_file:
        chosen[0] = damaged(chance, chosen[0])
    content = json.loads(request(*chosen))
    method = chance.choice(("predict", "predict", "classify"))
    listed = content["inputs"]["image_bytes"]
    if method == "classify":
        examples = [{"image_bytes": picture} for picture in listed]
        content = {"signature_name": "classify", "examples": examples}
    elif chance.random() < 0.3:
        content = {"signature_name": "serving_bytes", "instances": listed}
    elif chance.random() < 0.3:
        side = chance.choice((1, 2, 32))
        content = {"instances": [[[[0.5] * 3] * side] * side]}
    if not damage_file and chance.random() < 0.7:
        content = replaced(chance, content)
    body = json.dumps(content).encode()
    if not damage_file and chance.random() < 0.4:
        body = damaged(chance, body)
    return method, body


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
        kind = chance.randrange(5)
        if kind == 0 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randrange(64)]
        elif kind == 3:
            del data[at : at + chance.randrange(64)]
        else:
            data[at:at] = chance.randbytes(chance.randrange(8))
    return bytes(data)


if __name__ == "__main__":
    main()
