"""TF Serving's REST API as an ASGI application, with metrics and a page for people.

The paths are those of tensorflow_serving/model_servers/http_rest_api_util.cc.
"""

import html
import json
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from keras_inception.server import json_bodies
from keras_inception.server.bodies import Bodies
from keras_inception.server.classify import classify, regress
from keras_inception.server.depth import LEVEL_HEADER
from keras_inception.server.explanations import Explanations
from keras_inception.server.limits import Limits, ServingError
from keras_inception.server.manager import ModelSpec
from keras_inception.server.metrics import Metrics
from keras_inception.server.model_config import METRICS_PATH
from keras_inception.server.models import Models
from keras_inception.server.workers import Workers

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PATTERNS = {
    "POST": re.compile(
        rf"(?i)/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)"
    ),
    "GET": re.compile(
        rf"(?i)/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<method>metadata))?"
    ),
}
# kHTTPRestApiHandlerPathRegex; no other path is known to its HTTP server
_ANY_PATH = re.compile(r"(?i)/v1/.*")
_PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src blob: data:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'"
}
# AddCORSHeaders
_CORS: dict[str, Any] = {
    "allow_methods": ["POST", "GET"],
    "allow_headers": ["Content-Type"],
}


def build_app(
    models: Models,
    limits: Limits,
    *,
    workers: Workers | None = None,
    metrics: Metrics | None = None,
    metrics_path: str | None = METRICS_PATH,
    origins: Sequence[str] = (),
    lifespan: Callable[[Starlette], Any] | None = None,
    explanations: Explanations | None = None,
) -> Starlette:
    """Builds the ASGI application that serves models over REST.

    Args:
        models: The models to serve.
        limits: The limits on a request.
        workers: Threads for the requests, shared with gRPC.
        metrics: Counts of the requests, shared with gRPC.
        metrics_path: A second path of the metrics, besides `/metrics`.
        origins: Origins whose pages may send requests (CORS), or `"*"` for all.
        lifespan: A context in which the application runs.
        explanations: Answers `POST /explain`, and gives the page a switch for it.
    """
    workers = workers or Workers(limits)
    metrics = metrics or Metrics(models, workers)
    bodies = Bodies(limits)

    async def index(request: Request) -> Response:
        managers = models.managers()
        named = [m for m in managers if m.name == request.query_params.get("model")]
        name = (named or managers)[0].name if managers else ""
        page = _PAGE.replace("{{explains}}", json.dumps(explanations is not None))
        page = page.replace("{{title}}", html.escape(name)).replace(
            "{{name}}", json.dumps(name).replace("<", "\\u003c")
        )
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    async def measured(request: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(request: Request) -> Response:
        is_ready = models.ready()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def explain(request: Request) -> Response:
        assert explanations is not None
        try:
            contents = await bodies.read(request)
            done = partial(bodies.release, len(contents))
            answer = await workers.run(explanations.explain, contents, done=done)
        except ServingError as error:
            return JSONResponse({"error": str(error)}, error.status)
        except ClientDisconnect:
            return Response(status_code=499)
        return Response(answer, media_type="application/json")

    api = _Api(models, bodies, limits.body_bytes // 8, workers, metrics)
    cors = Middleware(CORSMiddleware, allow_origins=origins, **_CORS)
    return Starlette(
        routes=[
            Route("/", index),
            *([Route("/explain", explain, methods=["POST"])] if explanations else []),
            Route("/metrics", measured),
            *([Route(metrics_path, measured)] if metrics_path else []),
            Route("/v2/health/live", live),  # of the Open Inference Protocol
            Route("/v2/health/ready", ready),
            Route("/{path:path}", api, methods=None),
        ],
        middleware=[cors] if origins else [],
        lifespan=lifespan,
    )


class _Api:
    """The REST API as an ASGI endpoint, with its metrics."""

    def __init__(
        self,
        models: Models,
        bodies: Bodies,
        most_values: int,
        workers: Workers,
        metrics: Metrics,
    ):
        self._models = models
        self._bodies = bodies
        self._most_values = most_values
        self._workers = workers
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        method, name, seconds, level = "other", "", None, 0
        status, code = 200, grpc.StatusCode.OK
        try:
            spec, method = _parse_path(request.method, _path(scope))
            name = spec.name
            if request.method == "OPTIONS":
                answer = _preflight(request.headers.get("origin", ""))
            elif request.method == "GET":
                answer = _look_up(self._models, spec, method)
            else:
                encoding = request.headers.get("content-encoding", "")
                body = await self._bodies.read(request)
                done = partial(self._bodies.release, len(body))
                began = time.perf_counter()
                try:
                    answer, level = await self._workers.run(
                        self._answer, spec, method, body, encoding, done=done
                    )
                finally:
                    seconds = time.perf_counter() - began
                    del body  # the client may take its time to read the answer
        except ServingError as error:
            status, fault, code = error.status, str(error), error.code
        except ClientDisconnect:
            status, fault = 499, "The client disconnected"
            code = grpc.StatusCode.CANCELLED
        except Exception as error:  # a defect of the server must have a status, too
            status, fault = 500, f"{type(error).__name__}: {error}"
            code = grpc.StatusCode.INTERNAL
        if status != 200:
            answer = json.dumps({"error": fault})
        self._metrics.record("REST", method, name, code, status, seconds)
        headers = {LEVEL_HEADER: str(level)} if level else None
        response = Response(answer, status, headers, media_type="application/json")
        await response(scope, receive, send)

    def _answer(
        self, spec: ModelSpec, method: str, sent: bytes, encoding: str
    ) -> tuple[str, int]:
        """Answers a predict, classify or regress request, at a level of `depth`.

        Takes as long as the model computes, so it runs in a worker's thread.
        """
        with self._bodies.plain(sent, encoding) as body:
            request = json_bodies.parse(body, self._most_values)
            signature = request.get("signature_name", "")
            # FillClassifyRegressRequestFromJson fails before the model is looked up.
            examples = [] if method == "predict" else json_bodies.examples(request)
            with self._models.servable(spec) as (_, servable):
                if method == "classify":
                    classes = classify(servable, signature, examples)
                    json_bodies.check_size(classes, self._most_values)
                    return json_bodies.classifications(*classes), 0
                if method == "regress":
                    values = regress(servable, signature, examples)
                    return json_bodies.regressions(values), 0
                inputs, rows = json_bodies.tensors(request, servable.inputs(signature))
                request.clear()  # 20 times as large as the arrays
                outputs = servable.predict(signature, inputs)
            json_bodies.check_size(outputs.values(), self._most_values)
            return json_bodies.predictions(outputs, rows), outputs.level


def _path(scope: Scope) -> str:
    """The path as it was sent, with its query: `uri_path` of evhttp_request.cc."""
    path, query = scope["raw_path"], scope["query_string"]
    return (path + b"?" + query if query else path).decode("ascii", "replace")


def _parse_path(verb: str, path: str) -> tuple[ModelSpec, str]:
    """The model and the method (or metadata, status) that a verb and a path mean.

    The case of the path is ignored, but not that of the method behind it.
    """
    if not _ANY_PATH.fullmatch(path):
        raise ServingError(f"Not found: {path}", 404)
    if verb == "OPTIONS":
        return ModelSpec(""), "other"
    match = _PATTERNS[verb].fullmatch(path) if verb in _PATTERNS else None
    if not match:
        raise ServingError(f"Malformed request: {verb} {path}")
    version = None
    if match["version"]:
        digits = match["version"].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:  # TF Serving's are int64
            raise ServingError(f"Failed to convert version: {digits} to numeric.")
        version = int(digits)
    label = unquote(match["label"]) if match["label"] else None
    spec = ModelSpec(unquote(match["name"] or ""), version, label)
    method = match["method"] or ""
    if verb == "POST":
        if not method.islower():
            raise ServingError(f"Malformed request: {verb} {path}")
        return spec, method
    return spec, "metadata" if method == "metadata" else "status"


def _preflight(origin: str) -> str:
    """Answers a browser's CORS preflight; the headers say what is allowed."""
    if not re.search("https?://", origin):
        raise ServingError("Origin header is missing in CORS preflight")
    return ""


def _look_up(models: Models, spec: ModelSpec, method: str) -> str:
    """Answers a status or metadata request."""
    if not spec.name:
        raise ServingError("Missing model name in request.")
    content: dict[str, object]
    if method == "status":
        content = {"model_version_status": models.status(spec)}
    else:
        with models.servable(spec) as (number, servable):
            definitions = servable.signature_def
        names = {"name": spec.name, "signature_name": "", "version": str(number)}
        metadata = {"signature_def": {"signature_def": definitions}}
        content = {"model_spec": names, "metadata": metadata}
    return json.dumps(content, indent=1) + "\n"
