"""The ASGI application: the REST API, metrics, and a page for people."""

import html
import json
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from keras_inception.server import metrics, rest
from keras_inception.server.errors import ServingError
from keras_inception.server.limits import Limits
from keras_inception.server.manager import Manager
from keras_inception.server.workers import Workers, read_body

_PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src blob:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'"
}


def build_app(manager: Manager, limits: Limits) -> Starlette:
    """Builds the ASGI application for one model.

    Args:
        manager: The versions of the model.
        limits: What a request may cost.
    """
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
        self._metrics = metrics.Metrics(self._workers.in_progress)

    async def metrics(self, request: Request) -> Response:
        text = self._metrics.text(self._manager.name, self._manager.available())
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        method, status = "other", 200
        try:
            path = scope["raw_path"].decode("ascii", "replace")
            call = rest.parse_path(request.method, path)
            method = call.method
            if request.method == "GET":
                answer = rest.look_up(self._manager, call)
            else:
                body = await read_body(request, self._limits)
                with self._metrics.time(method):
                    answer = await self._workers.run(
                        rest.answer, self._manager, call, body
                    )
        except ServingError as error:
            status, answer = error.status, rest.error(str(error))
        except ClientDisconnect:
            status, answer = 499, rest.error("The client disconnected")
        except Exception as error:  # a defect of the server must have a status, too
            status, answer = 500, rest.error(f"{type(error).__name__}: {error}")
        self._metrics.count(method, status)
        response = Response(answer, status, media_type="application/json")
        await response(scope, receive, send)
