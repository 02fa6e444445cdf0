"""TF Serving's gRPC services: predictions, model status, health.

As in prediction_service_impl.cc. Requests share the workers, limits and batches of
REST's.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from keras_inception.server import grpc_messages
from keras_inception.server.depth import LEVEL_HEADER
from keras_inception.server.grpc_reading import Reading, hold_on
from keras_inception.server.limits import Limits, ServingError
from keras_inception.server.metrics import Metrics
from keras_inception.server.models import Models
from keras_inception.server.workers import Workers

_log = logging.getLogger("uvicorn.access")
_LONGEST_MESSAGE = 1024  # grpc_status_util.cc
_NAMES = ("PredictionService", "ModelService")
_HEALTH_NAMES = ("", *_NAMES, *(f"tensorflow.serving.{name}" for name in _NAMES))


@contextlib.asynccontextmanager
async def grpc_door(
    models: Models,
    limits: Limits,
    workers: Workers,
    metrics: Metrics,
    address: str,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[None]:
    """Answers gRPC requests at an address while the block runs, in its event loop."""
    options = [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # else two servers share a port
    ]
    server = grpc.aio.server(options=options, interceptors=[Reading(limits)])
    services = _Services(models, limits, workers, metrics)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        services, server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(services, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if credentials is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials)
    await server.start()
    reporting = asyncio.create_task(_report_health(health_servicer, models))
    try:
        yield
    finally:
        reporting.cancel()
        await health_servicer.enter_graceful_shutdown()
        await server.stop(limits.seconds + 1)


class _Services(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """TF Serving's services, without MultiInference and HandleReloadConfigRequest."""

    def __init__(
        self, models: Models, limits: Limits, workers: Workers, metrics: Metrics
    ):
        self._models = models
        self._limits = limits
        self._workers = workers
        self._metrics = metrics

    async def Predict(self, request: Any, context: grpc.aio.ServicerContext) -> Message:
        levels: list[int] = []
        predict = partial(
            grpc_messages.predict,
            most_bytes=self._limits.message_bytes,
            tell_level=levels.append,
        )
        response = await self._answer("Predict", predict, request, context)
        if any(levels):
            context.set_trailing_metadata([(LEVEL_HEADER.lower(), str(levels[0]))])
        return response

    async def Classify(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> Message:
        return await self._answer("Classify", grpc_messages.classify, request, context)

    async def Regress(self, request: Any, context: grpc.aio.ServicerContext) -> Message:
        return await self._answer("Regress", grpc_messages.regress, request, context)

    async def GetModelMetadata(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> Message:
        return await self._answer(
            "GetModelMetadata", grpc_messages.metadata, request, context
        )

    async def GetModelStatus(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> Message:
        return await self._answer(
            "GetModelStatus", grpc_messages.status, request, context
        )

    async def _answer(
        self,
        method: str,
        function: Callable[[Models, Any], Message],
        request: Any,
        context: grpc.aio.ServicerContext,
    ) -> Message:
        began = time.perf_counter()
        fault: ServingError | None = ServingError("The client is gone", 499)
        try:
            if not request.HasField("model_spec"):
                raise ServingError("Missing ModelSpec")
            response = await self._workers.run(
                function, self._models, request, done=hold_on()
            )
            fault = None
            return response
        except ServingError as error:
            fault = error
        except Exception as error:  # a defect of the server must have a status, too
            fault = ServingError(f"{type(error).__name__}: {error}", 500)
        finally:
            code = fault.code if fault else grpc.StatusCode.OK
            status = fault.status if fault else 200
            seconds = time.perf_counter() - began
            name = request.model_spec.name
            self._metrics.record("GRPC", method, name, code, status, seconds)
            _log.info(
                '%s - "%s %s HTTP/%s" %d', context.peer(), "gRPC", method, "2", status
            )
        message = str(fault)
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:_LONGEST_MESSAGE]}...TRUNCATED"
        await context.abort(fault.code, message)  # raises


async def _report_health(servicer: health.aio.HealthServicer, models: Models) -> None:
    """Keeps the health service at whether a version of every model is served."""
    statuses = health_pb2.HealthCheckResponse.ServingStatus
    while True:
        status = statuses.SERVING if models.ready() else statuses.NOT_SERVING
        for name in _HEALTH_NAMES:
            await servicer.set(name, status)
        await asyncio.sleep(0.5)
