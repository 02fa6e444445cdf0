"""Serves models: loads them, listens for REST and gRPC, and stops on signals."""

import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import uvicorn

from keras_inception.server.addresses import (
    Certificate,
    credentials,
    grpc_address,
    listen,
    url,
)
from keras_inception.server.connections import IDLE_SECONDS, Protocol
from keras_inception.server.depth import Depth
from keras_inception.server.explanations import Explanations
from keras_inception.server.grpc_service import grpc_door
from keras_inception.server.limits import Batching, Limits
from keras_inception.server.manager import Manager
from keras_inception.server.metrics import Metrics
from keras_inception.server.model_config import METRICS_PATH, read_models
from keras_inception.server.models import Models, repeating
from keras_inception.server.rest import build_app
from keras_inception.server.runtimes import runtime_of
from keras_inception.server.servable import Servable
from keras_inception.server.version_policy import ModelConfig, versions_in
from keras_inception.server.workers import Workers

_log = logging.getLogger(__name__)


def serve(
    directory: str | Path | None = None,
    *,
    model_config_file: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8501,
    grpc_port: int | None = None,
    name: str | None = None,
    wanted: str | Sequence[int] = "latest",
    labels: Mapping[str, int] | None = None,
    runtime: str | None = None,
    limits: Limits | None = None,
    batching: Batching | None = Batching(),  # noqa: B008, frozen
    poll_seconds: float = 1.0,
    config_poll_seconds: float = 0.0,
    metrics_path: str | None = METRICS_PATH,
    certificate: Certificate | None = None,
    origins: Sequence[str] = (),
    access_log: bool = False,
    explained: keras.Model | None = None,
    earlier_under_load: bool = False,
    started: Callable[[str, list[Manager], str], None] | None = None,
) -> None:
    """Serves models until SIGTERM or SIGINT, then finishes the requests in progress.

    Args:
        directory: `saved_models/NAME`. It may still be empty: the server waits for the
            first version.
        model_config_file: In place of a directory, a file of TF Serving's that lists
            models.
        host: The address to listen on. Defaults to this machine only.
        port: REST's port; 0 chooses a free one. Defaults to 8501, TF Serving's.
        grpc_port: gRPC's port; 0 for no gRPC. Defaults to 8500, TF Serving's, or no
            gRPC if that is taken.
        name: The model's name in requests. Defaults to the directory's name.
        wanted: The versions to serve: `"latest"`, `"all"`, or their numbers.
        labels: Names for versions, which are served as well.
        runtime: `"tensorflow"`, `"onnx"` or `"openvino"`. Defaults to the one that a
            version's files are for.
        limits: The limits on a request. Defaults to `Limits()`.
        batching: How concurrent requests are combined; `None` for no batching.
        poll_seconds: Seconds between checks for new versions.
        config_poll_seconds: Seconds between checks of the configuration file; 0 reads
            it once.
        metrics_path: A second path of the metrics, besides `/metrics`.
        certificate: Files in PEM form with the certificate and its private key, for TLS
            with REST and gRPC. Defaults to no TLS.
        origins: Origins whose pages may send requests (CORS), or `"*"` for all.
        access_log: Whether every request is printed.
        explained: The model behind the served version, with its heads. The page then
            has a switch that shows where each output looks.
        earlier_under_load: Whether the exits of a version answer the earlier the more
            requests wait, also where a request asks for main alone. The answer's header
            `Early-Exit-Level` then has the level.
        started: Called with REST's address, the models and gRPC's address (`""` without
            gRPC) when requests are accepted.

    Raises:
        ValueError: If a model has a version, and none that can be served, a label
            names a version that is not served, `explained` has no feature maps, or no
            version has exits for `earlier_under_load`.
        OSError: If a port is taken.
    """
    limits = limits or Limits()
    labels = labels or {}

    def configs() -> list[ModelConfig]:
        if model_config_file is not None:
            return read_models(Path(model_config_file))
        return [_config(Path(directory or ""), name, wanted, labels, runtime)]

    workers = Workers(limits)
    depth = Depth(workers.load) if earlier_under_load else None

    def load(path: Path, *, runtime: str | None) -> Servable:
        return Servable(path, batching, limits.picture_pixels, runtime, depth)

    explanations = None
    if explained is not None:
        explanations = Explanations(explained, limits.picture_pixels)
    models = Models(configs(), load)
    grpc_credentials = credentials(certificate)  # before minutes of loading
    with listen(host, port) as listening:
        grpc_at = grpc_address(host, grpc_port)
        models.update()
        for manager in models.managers():
            _check(manager)
        if depth is not None:
            _check_exits(models)
        metrics = Metrics(models, workers)

        @contextlib.asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[None]:
            async with contextlib.AsyncExitStack() as stack:
                if grpc_at:
                    door = grpc_door(
                        models, limits, workers, metrics, grpc_at, grpc_credentials
                    )
                    await stack.enter_async_context(door)
                if started:
                    started(url(listening, certificate), models.managers(), grpc_at)
                yield

        def reload() -> None:
            try:
                models.configure(configs())
            except (OSError, ValueError) as error:
                _log.error("%s", error)
            else:
                models.update()
                for manager in models.managers():
                    for label, number in manager.unassigned_labels().items():
                        _log.warning(
                            "label %r of %s waits for version %d",
                            label,
                            manager.name,
                            number,
                        )

        app = build_app(
            models,
            limits,
            workers=workers,
            metrics=metrics,
            metrics_path=metrics_path,
            origins=origins,
            lifespan=lifespan,
            explanations=explanations,
        )
        certificate_file, key_file = certificate or (None, None)
        config = uvicorn.Config(
            app,
            http=Protocol,
            timeout_keep_alive=IDLE_SECONDS,
            log_level="info" if access_log else "warning",
            access_log=access_log,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
            ssl_certfile=certificate_file,
            ssl_keyfile=key_file,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        server = uvicorn.Server(config)

        # For a signal that arrives before uvicorn handles them, and for the one that
        # uvicorn raises again when it has stopped.
        def stop(*_: object) -> None:
            server.should_exit = True

        before = signal.signal(signal.SIGTERM, stop)
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(models.following(poll_seconds))
                if model_config_file is not None and config_poll_seconds > 0:
                    stack.enter_context(repeating(config_poll_seconds, reload))
                server.run(sockets=[listening])
            if server.lifespan.should_exit:  # uvicorn has printed why
                raise RuntimeError("The server did not start.")
        finally:
            signal.signal(signal.SIGTERM, before)


def _config(
    directory: Path,
    name: str | None,
    wanted: str | Sequence[int],
    labels: Mapping[str, int],
    runtime: str | None,
) -> ModelConfig:
    """The model of a directory, unless it is another kind of directory."""
    if runtime_of(directory):
        raise ValueError(
            f"{directory} is a version; serve the directory that holds it: "
            f"{directory.resolve().parent}"
        )
    inner = [] if versions_in(directory) else list(directory.iterdir())
    models = sorted(path.name for path in inner if versions_in(path))
    if models:
        raise ValueError(
            f"{directory} has no version to serve: it holds directories of versions. "
            f"Serve one of {', '.join(models)}"
        )
    chosen = () if isinstance(wanted, str) else tuple(wanted)
    return ModelConfig(
        name or directory.resolve().name,
        directory,
        latest=int(wanted == "latest"),
        every=wanted == "all",
        numbers=(*chosen, *labels.values()),
        labels=dict(labels),
        runtime=runtime,
    )


def _check(manager: Manager) -> None:
    """Raises unless the model is served, or waits for its first version."""
    directory, available = manager.config.directory, manager.available()
    if not available and (failed := manager.failures()):
        reasons = "; ".join(f"version {n}: {error}" for n, error in failed.items())
        raise ValueError(f"{directory} has no version to serve: {reasons}")
    for label, number in manager.unassigned_labels().items():
        if available:
            raise ValueError(
                f"Label {label!r} is for version {number} of {manager.name}, which is "
                f"not served. Served are: {', '.join(map(str, available))}"
            )


def _check_exits(models: Models) -> None:
    """Raises if there are versions, and none of them can answer earlier."""
    served = [s for manager in models.managers() for s in manager.servables().values()]
    if served and not any(servable.highest_level for servable in served):
        raise ValueError(
            "No version that is served has exits to answer at. Export the model with "
            "--early-exit exits.json, as calibrate or exits writes it; an export of an "
            "earlier version of keras-inception has to be exported again."
        )
