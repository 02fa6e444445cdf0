"""Asks a running server, TF Serving or `keras-inception serve`, about picture files.

The standard library alone, so that the answer does not wait for TensorFlow's import.
"""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable

_PATH = re.compile(
    r"https?://[^/]+(?:/[^?#]*)?/v1/models/[^/:?#]+(?:/(?:versions|labels)/[^/:?#]+)?"
)


def remote_classifier(url: str, seconds: float = 60) -> Callable:
    """A served model as a function from a picture file to ranked classes.

    Args:
        url: `http://HOST:PORT/v1/models/NAME`, which may go on with `/versions/N` or
            `/labels/LABEL`; a `:predict` at the end is taken off.
        seconds: How long to wait for an answer.

    Raises:
        ValueError: If the address has another form.
    """
    model = url.strip().rstrip("/").removesuffix(":predict")
    if not _PATH.fullmatch(model):
        raise ValueError(
            f"--url takes http://HOST:PORT/v1/models/NAME, and /versions/N or "
            f"/labels/LABEL after it. Received: {url}"
        )

    def classify(image):
        with open(image, "rb") as file:
            contents = base64.b64encode(file.read()).decode()
        request = {
            "signature_name": "serving_bytes",
            "inputs": {"image_bytes": [{"b64": contents}]},
        }
        answer = _post(f"{model}:predict", request, seconds, image)
        try:
            outputs = answer["outputs"]
            classes, scores = outputs["classes"][0], outputs["scores"][0]
            return list(zip(classes, map(float, scores), strict=True))
        except (KeyError, TypeError, IndexError, ValueError):
            raise ValueError(
                f"{model} answers, but not with classes and scores; is it a model "
                f"that keras-inception exported? It said: {json.dumps(answer)[:200]}"
            ) from None

    return classify


def _post(url: str, content: dict, seconds: float, image: str) -> dict:
    request = urllib.request.Request(
        url,
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        told = error.read().decode("utf-8", "replace")
        try:
            told = json.loads(told)["error"]
        except (ValueError, KeyError, TypeError):
            told = told[:200] or error.reason
        raise ValueError(f"{image}: {url} answers {error.code}: {told}") from None
    except urllib.error.URLError as error:
        raise ConnectionError(f"No server at {url}: {error.reason}") from None
    except TimeoutError:
        raise TimeoutError(f"No answer from {url} within {seconds:g} s") from None
    except ValueError:
        raise ValueError(f"{url} answers, but not with JSON") from None
