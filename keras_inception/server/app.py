"""HTTP: TF Serving's paths, bounded bodies and times, metrics, and a page for people.

The paths are those of tensorflow_serving/model_servers/http_rest_api_util.cc.
"""

import asyncio
import html
import json
import re
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import prometheus_client
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from keras_inception.server import json_tensor
from keras_inception.server.errors import ServingError
from keras_inception.server.limits import Batching, Limits
from keras_inception.server.manager import Manager
from keras_inception.server.servable import Servable

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"(?i)/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)"
)
_GET = re.compile(
    rf"(?i)/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<method>metadata))?"
)
_PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def serve(
    directory: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    limits: Limits | None = None,
    batching: Batching | None = Batching(),  # noqa: B008, frozen
    look_every: float = 1.0,
    started: Callable[[str, Manager], None] | None = None,
    **versions,
) -> None:
    """Serves a model until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        directory: `saved_models/NAME`, with at least one version.
        host: Address to listen on. Defaults to this machine alone.
        port: Defaults to 8501, TF Serving's; 0 takes a free one.
        limits: What a request may cost.
        batching: How concurrent requests are put together; `None`: not at all.
        look_every: Seconds between looks for new versions.
        started: Called with the address and the manager once requests are taken.
        **versions: `name`, `wanted` and `labels`, as `Manager` takes them.

    Raises:
        ValueError: If no version can be served.
        OSError: If the port is taken.
    """
    limits = limits or Limits()

    def load(path):
        return Servable(path, batching, limits.picture_pixels)

    manager = Manager(directory, load, **versions)
    manager.look()
    if not manager.available():
        reasons = [f"version {n}: {why}" for n, why in manager.failures().items()]
        raise ValueError(
            f"{directory} has no version to serve: "
            + ("; ".join(reasons) or "there is no numbered directory that is wanted")
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        host, port = listening.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        server = uvicorn.Server(
            uvicorn.Config(
                build_app(manager, limits),
                lifespan="off",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=int(limits.seconds) + 1,
            )
        )

        # For a signal before uvicorn takes them; and for its own, which it raises again
        # after it has drained.
        def stop(*_):
            server.should_exit = True

        before = signal.signal(signal.SIGTERM, stop)
        try:
            with manager.following(look_every):
                if started:
                    started(f"http://{host}:{port}", manager)
                server.run(sockets=[listening])
        finally:
            signal.signal(signal.SIGTERM, before)


def build_app(manager: Manager, limits: Limits) -> Starlette:
    """The ASGI application for one model.

    Args:
        manager: Has the versions.
        limits: What a request may cost.
    """
    api = _Api(manager, limits)
    title = html.escape(manager.name)
    page = _PAGE.replace("{{title}}", title).replace(
        "{{name}}", json.dumps(manager.name).replace("<", "\\u003c")
    )

    async def index(request: Request) -> Response:
        return HTMLResponse(
            page,
            headers={
                "Content-Security-Policy": "default-src 'none'; img-src blob:; "
                "script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                "connect-src 'self'; frame-ancestors 'none'"
            },
        )

    return Starlette(
        routes=[
            Route("/", index),
            Route("/metrics", api.metrics),
            Route("/monitoring/prometheus/metrics", api.metrics),  # TF Serving's
            Route("/{path:path}", api, methods=None),
        ]
    )


class _Api:
    """TF Serving's REST API as an ASGI endpoint, with its metrics."""

    def __init__(self, manager: Manager, limits: Limits):
        self._manager = manager
        self._limits = limits
        # A thread each: in TensorFlow they wait for their batch.
        self._threads = ThreadPoolExecutor(limits.queue, "request")
        self._under_way = 0
        registry = self._registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "keras_inception_requests",
            "Requests by method and HTTP status.",
            ("method", "status"),
            registry=registry,
        )
        self._seconds = prometheus_client.Histogram(
            "keras_inception_request_seconds",
            "From the body's arrival to the answer.",
            ("method",),
            registry=registry,
        )
        prometheus_client.Gauge(
            "keras_inception_requests_under_way",
            "Requests being answered or waiting.",
            registry=registry,
        ).set_function(lambda: self._under_way)
        self._available = prometheus_client.Gauge(
            "keras_inception_version_available",
            "1 for every version that is served.",
            ("model", "version"),
            registry=registry,
        )

    async def metrics(self, request: Request) -> Response:
        self._available.clear()
        for number in self._manager.available():
            self._available.labels(self._manager.name, number).set(1)
        return Response(
            prometheus_client.generate_latest(self._registry),
            media_type=prometheus_client.CONTENT_TYPE_LATEST,
        )

    async def __call__(self, scope, receive, send):
        request = Request(scope, receive)
        method, status = "other", 200
        try:
            path = scope["raw_path"].decode("ascii", "replace")
            pattern = {"POST": _POST, "GET": _GET}.get(request.method)
            match = pattern and pattern.fullmatch(path)
            if not match:
                raise ServingError(f"Malformed request: {request.method} {path}")
            asked = _Asked(match)
            method = asked.method
            if request.method == "GET":
                answer = self._look_up(asked)
            else:
                body = await self._body(request)
                with self._seconds.labels(method).time():
                    answer = await self._in_thread(self._answer, asked, body)
        except ServingError as error:
            status, answer = error.status, _error(str(error))
        except ClientDisconnect:
            status, answer = 499, _error("The client went away")
        except Exception as error:  # a fault of ours must have a status, too
            status, answer = 500, _error(f"{type(error).__name__}: {error}")
        self._requests.labels(method, status).inc()
        response = Response(answer, status, media_type="application/json")
        await response(scope, receive, send)

    def _look_up(self, asked: "_Asked") -> str:
        if not asked.name:
            raise ServingError("Missing model name in request.")
        which = (asked.name, asked.version, asked.label)
        if asked.method == "status":
            return _pretty({"model_version_status": self._manager.status(*which)})
        with self._manager.servable(*which) as servable:
            definitions = servable.signature_def
        number = self._manager.number_of(asked.version, asked.label)
        return _pretty(
            {
                "model_spec": {
                    "name": asked.name,
                    "signature_name": "",
                    "version": str(number),
                },
                "metadata": {"signature_def": {"signature_def": definitions}},
            }
        )

    def _answer(self, asked: "_Asked", body: bytes) -> str:
        """From a body to an answer, in a thread."""
        which = (asked.name, asked.version, asked.label)
        request = json_tensor.parse(body)
        signature = request.get("signature_name", "")
        with self._manager.servable(*which) as servable:
            if asked.method == "regress":
                raise ServingError(
                    "This model classifies; it has no regression signature"
                )
            if asked.method == "classify":
                examples = json_tensor.examples(request)
                answer = servable.classify(signature, examples)
                return json_tensor.classifications(*answer)
            inputs, rows = json_tensor.tensors(request, servable.inputs(signature))
            return json_tensor.predictions(servable.predict(signature, inputs), rows)

    async def _body(self, request: Request) -> bytes:
        most = self._limits.body_bytes
        too_large = ServingError(f"The body is larger than {most:,} bytes", 413)
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise ServingError(
                f"The body did not arrive within {self._limits.seconds:g} seconds", 408
            ) from None
        return bytes(body)

    async def _in_thread(self, function: Callable[..., str], *arguments) -> str:
        if self._under_way >= self._limits.queue:
            raise ServingError(
                f"{self._limits.queue} requests are being answered or waiting; the "
                "queue is full. Try again",
                503,
            )
        self._under_way += 1
        running = asyncio.get_running_loop().run_in_executor(
            self._threads, function, *arguments
        )
        # It counts until it is done, also when nobody waits for it any more.
        running.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(running), self._limits.seconds)
        except TimeoutError:
            raise ServingError(
                f"No answer within {self._limits.seconds:g} seconds", 504
            ) from None

    def _done(self, running: asyncio.Future) -> None:
        self._under_way -= 1
        if not running.cancelled():
            running.exception()  # seen, whether or not somebody still waits


class _Asked:
    """Which model, version and method a path asks for."""

    def __init__(self, match: re.Match):
        self.name = unquote(match["name"] or "")
        self.label = unquote(match["label"]) if match["label"] else None
        self.method = (match["method"] or "status").lower()
        self.version = None
        if match["version"]:
            # TF Serving's versions are int64
            if len(match["version"]) > 19 or int(match["version"]) >= 2**63:
                raise ServingError(
                    f"Failed to convert version: {match['version']} to numeric."
                )
            self.version = int(match["version"])


def _pretty(content: dict) -> str:
    return json.dumps(content, indent=1) + "\n"


def _error(message: str) -> str:
    return json.dumps({"error": message})
