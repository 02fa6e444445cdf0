"""Pictures and answers over HTTP, each with a limit on its size and its whole time.

Nothing here imports TensorFlow, which takes seconds.
"""

import base64
import contextlib
import http.client
import json
import re
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence

MOST_BYTES = 64 * 2**20  # of a picture, or of a server's answer
SECONDS = 60.0  # for a whole transfer, redirects included

_URL = re.compile(
    r"(?P<models>https?://[^/?#]+(?:/[^?#]*)?/v1/models)/(?P<name>[^/]+?)"
    r"(?P<which>/versions/\d+|/labels/[^/:?#]+)?(?::predict)?/*"
)


def download(url: str) -> bytes:
    """Fetches a picture from an `http://` or `https://` address.

    Raises:
        ValueError, OSError: With the reason, without the address.
    """
    parts = urllib.parse.urlsplit(url)
    path, query = (
        urllib.parse.quote(part, safe="/%:=&?~+!$,;'@()*[]")
        for part in (parts.path, parts.query)
    )
    url = urllib.parse.urlunsplit(parts._replace(path=path, query=query))
    with _open(urllib.request.Request(url)) as response:
        if response.headers.get_content_type() == "text/html":
            raise ValueError("the address is a page (text/html), not a picture")
        return _read(response)


class Ranked(list[tuple[str, float]]):
    """The best classes of a picture, and the exit that answered, if the server says."""

    exit: str | None = None


class Server:
    """A model on a running server, TF Serving's or this package's.

    With `early_exit` its exits answer, if it was exported with any.
    """

    classes = None  # their number is not known

    def __init__(self, url: str, early_exit: bool = False):
        match = _URL.fullmatch(url.strip())
        if not match:
            raise ValueError(
                "--url takes http://HOST:PORT/v1/models/NAME, optionally followed by "
                f"/versions/N or /labels/LABEL. Received: {url}"
            )
        # as typed, or as a browser and `serve` write it
        name = urllib.parse.quote(urllib.parse.unquote(match["name"]), safe="")
        self._model = f"{match['models']}/{name}{match['which'] or ''}"
        self._signature = "serving_bytes_early_exit" if early_exit else "serving_bytes"
        self._answers = False

    def rank(self, files: Sequence[bytes], top: int) -> list[Ranked]:
        """Asks for the `top` best classes of each picture file, with their scores.

        Raises:
            ValueError: If the server refuses a picture or answers something else.
            RuntimeError: If the server or the model can't be reached at all.
        """
        return [self._ask(contents, top) for contents in files]

    def _ask(self, contents: bytes, top: int) -> Ranked:
        image = {"b64": base64.b64encode(contents).decode()}
        request = {
            "signature_name": self._signature,
            "inputs": {"image_bytes": [image]},
        }
        try:
            answer = self._post(request)
        except OSError as error:
            message = f"No server at {self._model}: {error}"
            # Later ones are reported with their picture: others may be answered.
            raise (ValueError if self._answers else RuntimeError)(message) from None
        self._answers = True
        try:
            outputs = answer["outputs"]
            classes, scores = outputs["classes"][0], outputs["scores"][0]
            pairs = zip(map(str, classes), map(float, scores), strict=True)
            ranked = Ranked(list(pairs)[:top])
            if "exit" in outputs:
                ranked.exit = str(outputs["exit"][0])
            return ranked
        except (KeyError, TypeError, IndexError, ValueError):
            raise ValueError(
                f"{self._model} did not answer with classes and scores. Only models "
                f"exported by keras-inception do. It answered: {str(answer)[:200]}"
            ) from None

    def _post(self, content: dict):
        request = urllib.request.Request(
            f"{self._model}:predict",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with _open(request) as response:
                return json.loads(_read(response))
        except _Refusal as refusal:
            unreachable = refusal.status in (401, 403, 404) and not self._answers
            kind = RuntimeError if unreachable else ValueError
            raise kind(f"{self._model}:predict {refusal}") from None
        except ValueError:
            raise ValueError(f"{self._model} did not answer with JSON") from None


class _Refusal(OSError):
    """Raised for an answer with an HTTP status that is an error."""

    def __init__(self, status: int, reason: str):
        super().__init__(f"answers {status}: {reason}")
        self.status = status


@contextlib.contextmanager
def _open(request: urllib.request.Request) -> Iterator[http.client.HTTPResponse]:
    """Sends a request, and shuts its connections down when `SECONDS` are over.

    A socket's own timeout begins anew with every byte that arrives.
    """
    sockets: list[socket.socket] = []
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        for opened in sockets:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    request.add_header("User-Agent", "keras-inception")
    timer = threading.Timer(SECONDS, expire)
    timer.daemon = True
    timer.start()
    try:
        with _opener(sockets).open(request, timeout=SECONDS) as response:
            yield response
            if expired.is_set():  # without a length, an end looks like any other
                raise TimeoutError
    except urllib.error.HTTPError as error:
        with error:
            raise _Refusal(error.code, _reason(error)) from None
    except (OSError, http.client.HTTPException) as error:
        if expired.is_set() or isinstance(error, TimeoutError):
            raise OSError(f"no complete answer within {SECONDS:g} s") from None
        reason = getattr(error, "reason", None) or error
        raise OSError(str(reason) or type(reason).__name__) from None
    finally:
        timer.cancel()


def _opener(sockets: list[socket.socket]) -> urllib.request.OpenerDirector:
    """An opener of `http` and `https` alone, redirects included.

    It adds the sockets that it connects to `sockets`.
    """

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class Handler(urllib.request.AbstractHTTPHandler):
        def http_open(self, request: urllib.request.Request):
            return self.do_open(Connection, request)

        def https_open(self, request: urllib.request.Request):
            return self.do_open(SecureConnection, request)

        http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        Handler(),
    ):
        opener.add_handler(handler)
    return opener


def _read(response: http.client.HTTPResponse) -> bytes:
    announced = response.length or 0
    contents = response.read(MOST_BYTES + 1) if announced <= MOST_BYTES else b""
    if max(announced, len(contents)) > MOST_BYTES:
        raise ValueError(f"it is larger than the limit of {MOST_BYTES >> 20} MiB")
    if response.length:
        raise OSError("the connection ended before the last byte")
    return contents


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read(10_000).decode("utf-8", "replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        is_text = error.headers.get_content_type() == "text/plain"
        return (text.strip()[:200] if is_text else "") or str(error.reason)
