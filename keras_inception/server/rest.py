"""TF Serving's REST API as an ASGI application, with metrics and a page for people.

The paths are those of tensorflow_serving/model_servers/http_rest_api_util.cc.
"""

import asyncio
import html
import json
import re
from pathlib import Path
from urllib.parse import unquote

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from keras_inception.server import json_bodies
from keras_inception.server.limits import Limits, ServingError
from keras_inception.server.manager import Manager, ModelSpec
from keras_inception.server.workers import Metrics, Workers

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATTERNS = {
    "POST": re.compile(
        rf"(?i)/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)"
    ),
    "GET": re.compile(
        rf"(?i)/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<method>metadata))?"
    ),
}
_PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src blob:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'"
}


def build_app(manager: Manager, limits: Limits) -> Starlette:
    """Builds the ASGI application for one model, whose requests may cost `limits`."""
    api = _Api(manager, limits)
    page = _PAGE.replace("{{title}}", html.escape(manager.name)).replace(
        "{{name}}", json.dumps(manager.name).replace("<", "\\u003c")
    )

    async def index(request: Request) -> Response:
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/metrics", api.metrics),
            Route("/monitoring/prometheus/metrics", api.metrics),  # TF Serving's path
            Route("/{path:path}", api, methods=None),
        ]
    )


class _Api:
    """The REST API as an ASGI endpoint, with its metrics."""

    def __init__(self, manager: Manager, limits: Limits):
        self._manager = manager
        self._limits = limits
        self._workers = Workers(limits)
        self._metrics = Metrics(self._workers)

    async def metrics(self, request: Request) -> Response:
        text = self._metrics.text(self._manager.name, self._manager.available())
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        method, status = "other", 200
        try:
            path = scope["raw_path"].decode("ascii", "replace")
            spec, method = _parse_path(request.method, path)
            if request.method == "GET":
                answer = _look_up(self._manager, spec, method)
            else:
                body = await _read_body(request, self._limits)
                with self._metrics.time(method):
                    answer = await self._workers.run(
                        _answer, self._manager, spec, method, body
                    )
        except ServingError as error:
            status, fault = error.status, str(error)
        except ClientDisconnect:
            status, fault = 499, "The client disconnected"
        except Exception as error:  # a defect of the server must have a status, too
            status, fault = 500, f"{type(error).__name__}: {error}"
        if status != 200:
            answer = json.dumps({"error": fault})
        self._metrics.count(method, status)
        response = Response(answer, status, media_type="application/json")
        await response(scope, receive, send)


def _parse_path(verb: str, path: str) -> tuple[ModelSpec, str]:
    """The model and the method (or metadata, status) that a verb and a path mean."""
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
    return spec, (match["method"] or "status").lower()


async def _read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request, unless it is too large (413) or too slow (408)."""
    most = limits.body_bytes
    too_large = ServingError(f"The body is larger than {most:,} bytes", 413)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise ServingError(
            f"The body did not arrive within {limits.seconds:g} seconds", 408
        ) from None
    return bytes(body)


def _look_up(manager: Manager, spec: ModelSpec, method: str) -> str:
    """Answers a status or metadata request."""
    if not spec.name:
        raise ServingError("Missing model name in request.")
    content: dict[str, object]
    if method == "status":
        content = {"model_version_status": manager.status(spec)}
    else:
        with manager.servable(spec) as (number, servable):
            definitions = servable.signature_def
        names = {"name": spec.name, "signature_name": "", "version": str(number)}
        metadata = {"signature_def": {"signature_def": definitions}}
        content = {"model_spec": names, "metadata": metadata}
    return json.dumps(content, indent=1) + "\n"


def _answer(manager: Manager, spec: ModelSpec, method: str, body: bytes) -> str:
    """Answers a predict, classify or regress request; runs as long as the model."""
    request = json_bodies.parse(body)
    signature = request.get("signature_name", "")
    with manager.servable(spec) as (_, servable):
        if method == "regress":
            raise ServingError("This model classifies; it has no regression signature")
        if method == "classify":
            examples = json_bodies.examples(request)
            return json_bodies.classifications(*servable.classify(signature, examples))
        inputs, rows = json_bodies.tensors(request, servable.inputs(signature))
        return json_bodies.predictions(servable.predict(signature, inputs), rows)
