"""TF Serving's REST API, without HTTP: a path and a body to an answer.

The paths are those of tensorflow_serving/model_servers/http_rest_api_util.cc.
"""

import json
import re
from typing import NamedTuple
from urllib.parse import unquote

from keras_inception.server import json_request, json_response
from keras_inception.server.errors import ServingError
from keras_inception.server.manager import Manager, ModelSpec

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATTERNS = {
    "POST": re.compile(
        rf"(?i)/v1/models/(?P<name>[^/:]+){_WHICH}"
        r":(?P<method>classify|regress|predict)"
    ),
    "GET": re.compile(
        rf"(?i)/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<method>metadata))?"
    ),
}


class Call(NamedTuple):
    """A call of the API.

    Attributes:
        spec: The model that it is for.
        method: `"predict"`, `"classify"`, `"regress"`, `"metadata"` or `"status"`.
    """

    spec: ModelSpec
    method: str


def parse_path(verb: str, path: str) -> Call:
    """The call that an HTTP verb and a path mean.

    Raises:
        ServingError: If there is no such call.
    """
    match = _PATTERNS[verb].fullmatch(path) if verb in _PATTERNS else None
    if not match:
        raise ServingError(f"Malformed request: {verb} {path}")
    version = None
    if digits := match["version"]:
        if len(digits) > 19 or int(digits) >= 2**63:  # TF Serving's are int64
            raise ServingError(f"Failed to convert version: {digits} to numeric.")
        version = int(digits)
    label = unquote(match["label"]) if match["label"] else None
    spec = ModelSpec(unquote(match["name"] or ""), version, label)
    return Call(spec, (match["method"] or "status").lower())


def look_up(manager: Manager, call: Call) -> str:
    """Answers a status or metadata call.

    Raises:
        ServingError: If the model is not served.
    """
    if not call.spec.name:
        raise ServingError("Missing model name in request.")
    if call.method == "status":
        return _indented({"model_version_status": manager.status(call.spec)})
    with manager.servable(call.spec) as (number, servable):
        definitions = servable.signature_def
    spec = {"name": call.spec.name, "signature_name": "", "version": str(number)}
    metadata = {"signature_def": {"signature_def": definitions}}
    return _indented({"model_spec": spec, "metadata": metadata})


def answer(manager: Manager, call: Call, body: bytes) -> str:
    """Answers a predict, classify or regress call; it takes as long as the model.

    Raises:
        ServingError: If the call can't be answered.
    """
    request = json_request.parse(body)
    signature = request.get("signature_name", "")
    with manager.servable(call.spec) as (_, servable):
        if call.method == "regress":
            raise ServingError("This model classifies; it has no regression signature")
        if call.method == "classify":
            examples = json_request.examples(request)
            return json_response.classifications(
                *servable.classify(signature, examples)
            )
        specs = servable.inputs(signature)
        inputs, rows = json_request.tensors(request, specs)
        return json_response.predictions(servable.predict(signature, inputs), rows)


def error(message: str) -> str:
    """The body of an answer that reports an error."""
    return json.dumps({"error": message})


def _indented(content: dict) -> str:
    return json.dumps(content, indent=1) + "\n"
