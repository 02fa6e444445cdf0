"""Classifies picture files with a running TF Serving or `keras-inception serve`.

Uses only the standard library, so that nobody waits for the import of TensorFlow.
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


def remote_classifier(
    url: str, seconds: float = 60
) -> Callable[[str], list[tuple[str, float]]]:
    """Makes a function from a picture file to its classes and scores, best first.

    Args:
        url: `http://HOST:PORT/v1/models/NAME`, optionally followed by `/versions/N` or
            `/labels/LABEL`; a final `:predict` is ignored.
        seconds: Time limit for an answer. Defaults to 60.

    Raises:
        ValueError: If `url` has another form.
    """
    model = url.strip().rstrip("/").removesuffix(":predict")
    if not _PATH.fullmatch(model):
        raise ValueError(
            "--url takes http://HOST:PORT/v1/models/NAME, optionally followed by "
            f"/versions/N or /labels/LABEL. Received: {url}"
        )

    def classify(image: str) -> list[tuple[str, float]]:
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
                f"{model} did not answer with classes and scores. Only models exported "
                f"by keras-inception do. It answered: {json.dumps(answer)[:200]}"
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
        reason = error.read().decode("utf-8", "replace")
        try:
            reason = json.loads(reason)["error"]
        except (ValueError, KeyError, TypeError):
            reason = reason[:200] or error.reason
        raise ValueError(f"{image}: {url} answers {error.code}: {reason}") from None
    except urllib.error.URLError as error:
        raise ConnectionError(f"No server at {url}: {error.reason}") from None
    except TimeoutError:
        raise TimeoutError(f"No answer from {url} within {seconds:g} s") from None
    except ValueError:
        raise ValueError(f"{url} did not answer with JSON") from None
