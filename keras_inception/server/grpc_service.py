"""TF Serving's gRPC services: predictions, model status, health.

The messages are those of the package tensorflow-serving-api; the rules those of
prediction_service_impl.cc and predict_util.cc. Requests run in the same workers, limits
and batches as REST's.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from keras_inception.export.signatures import DEFAULT
from keras_inception.export.warmup import serialized_examples
from keras_inception.server.classify import classify, regress
from keras_inception.server.grpc_tensors import to_array, to_proto
from keras_inception.server.limits import Limits, ServingError, failed_precondition
from keras_inception.server.manager import ModelSpec
from keras_inception.server.metrics import Metrics
from keras_inception.server.models import Models
from keras_inception.server.servable import Servable
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
    server = grpc.aio.server(options=options)
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
        return await self._answer("Predict", self._predict, request, context)

    async def Classify(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> Message:
        return await self._answer("Classify", self._classify, request, context)

    async def Regress(self, request: Any, context: grpc.aio.ServicerContext) -> Message:
        return await self._answer("Regress", self._regress, request, context)

    async def GetModelMetadata(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> Message:
        return await self._answer("GetModelMetadata", self._metadata, request, context)

    async def GetModelStatus(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> Message:
        return await self._answer("GetModelStatus", self._status, request, context)

    async def _answer(
        self,
        method: str,
        function: Callable[[Any], Message],
        request: Any,
        context: grpc.aio.ServicerContext,
    ) -> Message:
        began = time.perf_counter()
        fault: ServingError | None = ServingError("The client is gone", 499)
        try:
            if not request.HasField("model_spec"):
                raise ServingError("Missing ModelSpec")
            response = await self._workers.run(function, request)
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

    def _predict(self, request: PredictRequest) -> PredictResponse:
        spec, signature = _spec(request), request.model_spec.signature_name or DEFAULT
        with self._models.servable(spec) as (number, servable):
            if signature not in servable.definitions:
                raise failed_precondition(
                    f'Serving signature key "{signature}" not found.'
                )
            wanted = _filtered(servable, signature, list(request.output_filter))
            types = {key: i.dtype for key, i in servable.inputs(signature).items()}
            inputs = {
                key: to_array(key, value, types.get(key), self._limits.message_bytes)
                for key, value in request.inputs.items()
            }
            outputs = servable.predict(signature, inputs)
        response = PredictResponse()
        _describe(response, request, number, signature)
        for key in wanted:
            response.outputs[key].CopyFrom(to_proto(outputs[key]))
        return response

    def _classify(self, request: Any) -> Message:
        signature = request.model_spec.signature_name
        with self._models.servable(_spec(request)) as (number, servable):
            _check_signature(servable, signature)
            answers = classify(servable, signature, _examples(request))
        response = classification_pb2.ClassificationResponse()
        _describe(response, request, number, signature or DEFAULT)
        for labels, scores in zip(*answers, strict=True):
            found = response.result.classifications.add()
            for label, score in zip(labels, scores, strict=True):
                found.classes.add(label=label.decode("utf-8", "replace"), score=score)
        return response

    def _regress(self, request: Any) -> Message:
        signature = request.model_spec.signature_name
        with self._models.servable(_spec(request)) as (number, servable):
            _check_signature(servable, signature)
            numbers = regress(servable, signature, _examples(request))
        response = regression_pb2.RegressionResponse()
        _describe(response, request, number, signature or DEFAULT)
        for value in numbers.tolist():
            response.result.regressions.add(value=value)
        return response

    def _metadata(self, request: Any) -> Message:
        fields = list(request.metadata_field)
        if not fields:
            raise ServingError(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in fields:
            if field != "signature_def":
                raise ServingError(f"Metadata field {field} is not supported")
        with self._models.servable(_spec(request)) as (number, servable):
            definitions = get_model_metadata_pb2.SignatureDefMap(
                signature_def=servable.definitions
            )
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _describe(response, request, number, "")
        response.metadata["signature_def"].Pack(definitions)
        return response

    def _status(self, request: Any) -> Message:
        response = get_model_status_pb2.GetModelStatusResponse()
        for entry in self._models.status(_spec(request, named=False)):
            found = response.model_version_status.add(version=int(entry["version"]))
            found.state = found.State.Value(entry["state"])
            code = entry["status"]["error_code"]
            found.status.error_code = grpc.StatusCode[code].value[0]
            found.status.error_message = entry["status"]["error_message"]
        return response


async def _report_health(servicer: health.aio.HealthServicer, models: Models) -> None:
    """Keeps the health service at whether a version of every model is served."""
    statuses = health_pb2.HealthCheckResponse.ServingStatus
    while True:
        status = statuses.SERVING if models.ready() else statuses.NOT_SERVING
        for name in _HEALTH_NAMES:
            await servicer.set(name, status)
        await asyncio.sleep(0.5)


def _spec(request: Any, named: bool = True) -> ModelSpec:
    spec = request.model_spec
    if named and not spec.name:
        raise ServingError("ModelSpec has no name specified.")
    version = spec.version.value if spec.HasField("version") else None
    label = spec.version_label if spec.HasField("version_label") else None
    return ModelSpec(spec.name, version, label)


def _describe(response: Any, request: Any, number: int, signature: str) -> None:
    """Fills the response's model_spec as MakeModelSpec in util.cc does."""
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = signature
    response.model_spec.version.value = number


def _filtered(servable: Servable, signature: str, wanted: list[str]) -> list[str]:
    """The outputs to answer: those of the request's output_filter, or all."""
    outputs = sorted(servable.definitions[signature].outputs)
    for index, name in enumerate(wanted):
        if name not in outputs:
            raise ServingError(
                f"output tensor alias not found in signature: {name} Outputs expected "
                f"to be in the set {{{','.join(outputs)}}}."
            )
        if name in wanted[:index]:
            raise ServingError(f"duplicate output tensor alias: {name}")
    return wanted or outputs


def _check_signature(servable: Servable, signature: str) -> None:
    if (signature or DEFAULT) not in servable.definitions:
        raise ServingError(f"No signature was found with the name: {signature}")


def _examples(request: Any) -> list[bytes]:
    try:
        return serialized_examples(request.input).tolist()
    except ValueError as error:
        raise ServingError(str(error)) from None
