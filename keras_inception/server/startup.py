"""Serves a model: loads it, listens, and stops on signals."""

import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uvicorn

from keras_inception.server.connections import IDLE_SECONDS, Protocol
from keras_inception.server.limits import Batching, Limits
from keras_inception.server.manager import Manager
from keras_inception.server.rest import build_app
from keras_inception.server.servable import Servable


def serve(
    directory: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    name: str | None = None,
    wanted: str | Sequence[int] = "latest",
    labels: Mapping[str, int] | None = None,
    limits: Limits | None = None,
    batching: Batching | None = Batching(),  # noqa: B008, frozen
    poll_seconds: float = 1.0,
    started: Callable[[str, Manager], None] | None = None,
) -> None:
    """Serves a model until SIGTERM or SIGINT, then finishes the requests in progress.

    Args:
        directory: `saved_models/NAME`, with at least one version.
        host: The address to listen on. Defaults to this machine only.
        port: The port; 0 chooses a free one. Defaults to 8501, TF Serving's.
        name: The model's name in requests. Defaults to the directory's name.
        wanted: The versions to serve: `"latest"`, `"all"`, or their numbers.
        labels: Names for versions, which are served as well.
        limits: What a request may cost. Defaults to `Limits()`.
        batching: How concurrent requests are combined; `None` for no batching.
        poll_seconds: Seconds between checks for new versions.
        started: Called with the address and the manager when requests are accepted.

    Raises:
        ValueError: If no version can be served.
        OSError: If the port is taken.
    """
    limits = limits or Limits()
    manager = Manager(
        directory,
        lambda path: Servable(path, batching, limits.picture_pixels),
        name=name,
        wanted=wanted,
        labels=labels,
    )
    manager.update()
    if not manager.available():
        failed = [f"version {n}: {error}" for n, error in manager.failures().items()]
        reasons = failed or ["no numbered directory in it is wanted"]
        raise ValueError(f"{directory} has no version to serve: {'; '.join(reasons)}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        host, port = listening.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            build_app(manager, limits),
            lifespan="off",
            log_level="warning",
            access_log=False,
            http=Protocol,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
        )
        server = uvicorn.Server(config)

        # For a signal that arrives before uvicorn handles them, and for the one that
        # uvicorn raises again when it has stopped.
        def stop(*_: object) -> None:
            server.should_exit = True

        before = signal.signal(signal.SIGTERM, stop)
        try:
            with manager.following(poll_seconds):
                if started:
                    started(f"http://{host}:{port}", manager)
                server.run(sockets=[listening])
        finally:
            signal.signal(signal.SIGTERM, before)
