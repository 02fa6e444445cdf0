"""Classify picture files with a .keras model, an exported directory or a server."""

import argparse
import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_inception_cli import common, console

SECONDS = 60  # limit for a server's answer
_URL = re.compile(
    r"https?://[^/]+(?:/[^?#]*)?/v1/models/[^/:?#]+(?:/(?:versions|labels)/[^/:?#]+)?"
)

# From a picture file to its classes and scores, best first.
Classifier = Callable[[str], list[tuple[str, float]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `predict`."""
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a .keras file, an exported version, or the directory of its versions; "
        "omitted with --url",
    )
    add("images", metavar="IMAGE", nargs="*", help="picture files")
    add(
        "--url",
        help="use a running server instead, TF Serving or keras-inception serve: "
        "http://HOST:PORT/v1/models/NAME",
    )
    add("--top", type=int, default=3, help="classes per picture (default: 3)")
    add("--json", action="store_true", help="print a JSON object per picture instead")


def run(options: argparse.Namespace) -> None:
    """Prints the most probable classes of each picture, best first."""
    common.check_at_least(options, {"top": 1})
    images = [options.model, *options.images] if options.url else options.images
    if not images:
        raise ValueError("predict needs a MODEL and at least one IMAGE")
    classify = _remote(options.url) if options.url else _local(options.model)
    for image in images:
        ranked = classify(image)[: options.top]
        if options.json:
            print(json.dumps({"image": image, "classes": dict(ranked)}))
        else:
            answer = ", ".join(f"{name} {score:.3f}" for name, score in ranked)
            print(f"{image}: {answer}")


def _local(path: str) -> Classifier:
    with console.quiet_start():
        import numpy as np

        from keras_inception import data, export
        from keras_inception.defaults import input_size_of
        from keras_inception.supervision import plain_classifier

    if Path(path).is_dir():
        return export.load_classifier(path)
    model = common.load_model(path)
    input_size, main = input_size_of(model), plain_classifier(model)

    def classify(image: str) -> list[tuple[str, float]]:
        pixels = data.load_picture(image, input_size)
        scores = main.predict(pixels[None], verbose=0)[0]
        names = getattr(model, "class_names", None) or range(len(scores))
        best_first = np.argsort(-scores)
        return [(str(names[index]), float(scores[index])) for index in best_first]

    return classify


def _remote(url: str) -> Classifier:
    """Asks a server; does not import TensorFlow, which takes seconds."""
    model = url.strip().rstrip("/").removesuffix(":predict")
    if not _URL.fullmatch(model):
        raise ValueError(
            "--url takes http://HOST:PORT/v1/models/NAME, optionally followed by "
            f"/versions/N or /labels/LABEL. Received: {url}"
        )

    def classify(image: str) -> list[tuple[str, float]]:
        contents = base64.b64encode(Path(image).read_bytes()).decode()
        inputs = {"image_bytes": [{"b64": contents}]}
        request = {"signature_name": "serving_bytes", "inputs": inputs}
        answer = _post(f"{model}:predict", request, image)
        try:
            outputs = answer["outputs"]
            classes, scores = outputs["classes"][0], outputs["scores"][0]
            return list(zip(classes, map(float, scores), strict=True))
        except (KeyError, TypeError, IndexError, ValueError):
            raise ValueError(
                f"{model} did not answer with classes and scores. Only models exported "
                f"by keras-inception do. It answered: {json.dumps(answer)[:200]}"
            ) from None

    return classify


def _post(url: str, content: dict, image: str) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        reason = error.read().decode("utf-8", "replace")
        try:
            reason = json.loads(reason)["error"]
        except (ValueError, KeyError, TypeError):
            reason = reason[:200] or error.reason
        raise ValueError(f"{image}: {url} answers {error.code}: {reason}") from None
    except urllib.error.URLError as error:
        raise ConnectionError(f"No server at {url}: {error.reason}") from None
    except TimeoutError:
        raise TimeoutError(f"No answer from {url} within {SECONDS} s") from None
    except ValueError:
        raise ValueError(f"{url} did not answer with JSON") from None
