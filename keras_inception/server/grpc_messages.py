"""TF Serving's request messages to models, and their answers to messages.

The rules are those of predict_util.cc, classifier.cc, regressor.cc,
get_model_metadata_impl.cc and get_model_status_impl.cc. A request that breaks one
raises a `ServingError`.
"""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from keras_inception.export.signatures import DEFAULT
from keras_inception.export.warmup import serialized_examples
from keras_inception.server.classify import classify as classes_and_scores
from keras_inception.server.classify import regress as regression_values
from keras_inception.server.grpc_tensors import to_array, to_proto
from keras_inception.server.limits import ServingError, failed_precondition
from keras_inception.server.manager import ModelSpec
from keras_inception.server.models import Models
from keras_inception.server.servable import Servable


def predict(
    models: Models,
    request: PredictRequest,
    most_bytes: int,
    tell_level: Callable[[int], None],
) -> PredictResponse:
    """Answers Predict; no input may declare more than `most_bytes`.

    `tell_level` is called with the level of `depth` that it was answered at.
    """
    spec, signature = _spec(request), request.model_spec.signature_name or DEFAULT
    with models.servable(spec) as (number, servable):
        if signature not in servable.definitions:
            raise failed_precondition(f'Serving signature key "{signature}" not found.')
        wanted = _filtered(servable, signature, list(request.output_filter))
        types = {key: i.dtype for key, i in servable.inputs(signature).items()}
        inputs = {
            key: to_array(key, value, types.get(key), most_bytes)
            for key, value in request.inputs.items()
        }
        outputs = servable.predict(signature, inputs)
    tell_level(outputs.level)
    response = PredictResponse()
    _describe(response, request, number, signature)
    for key in wanted:
        response.outputs[key].CopyFrom(to_proto(outputs[key]))
    return response


def classify(models: Models, request: Any) -> Message:
    """Answers Classify."""
    signature = request.model_spec.signature_name
    with models.servable(_spec(request)) as (number, servable):
        _check_signature(servable, signature)
        answers = classes_and_scores(servable, signature, _examples(request))
    response = classification_pb2.ClassificationResponse()
    _describe(response, request, number, signature or DEFAULT)
    for labels, scores in zip(*answers, strict=True):
        found = response.result.classifications.add()
        for label, score in zip(labels, scores, strict=True):
            found.classes.add(label=label.decode("utf-8", "replace"), score=score)
    return response


def regress(models: Models, request: Any) -> Message:
    """Answers Regress."""
    signature = request.model_spec.signature_name
    with models.servable(_spec(request)) as (number, servable):
        _check_signature(servable, signature)
        numbers = regression_values(servable, signature, _examples(request))
    response = regression_pb2.RegressionResponse()
    _describe(response, request, number, signature or DEFAULT)
    for value in numbers.tolist():
        response.result.regressions.add(value=value)
    return response


def metadata(models: Models, request: Any) -> Message:
    """Answers GetModelMetadata."""
    fields = list(request.metadata_field)
    if not fields:
        raise ServingError(
            "GetModelMetadataRequest must specify at least one metadata_field"
        )
    for field in fields:
        if field != "signature_def":
            raise ServingError(f"Metadata field {field} is not supported")
    with models.servable(_spec(request)) as (number, servable):
        definitions = get_model_metadata_pb2.SignatureDefMap(
            signature_def=servable.definitions
        )
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    _describe(response, request, number, "")
    response.metadata["signature_def"].Pack(definitions)
    return response


def status(models: Models, request: Any) -> Message:
    """Answers GetModelStatus."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for entry in models.status(_spec(request, named=False)):
        found = response.model_version_status.add(version=int(entry["version"]))
        found.state = found.State.Value(entry["state"])
        code = entry["status"]["error_code"]
        found.status.error_code = grpc.StatusCode[code].value[0]
        found.status.error_message = entry["status"]["error_message"]
    return response


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
