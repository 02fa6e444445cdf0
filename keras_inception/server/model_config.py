"""TF Serving's own configuration files, in protobuf's text form.

A file that TF Serving would refuse raises a `ValueError` here, too.
"""

import dataclasses
from pathlib import Path

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)
from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import (
    ModelConfig as ModelConfigMessage,
)
from tensorflow_serving.config.model_server_config_pb2 import (
    ModelServerConfig,
    ModelType,
)

from keras_inception.server.limits import Batching
from keras_inception.server.runtimes import FILES
from keras_inception.server.version_policy import ModelConfig

METRICS_PATH = "/monitoring/prometheus/metrics"  # prometheus_exporter.cc


def read_models(path: Path) -> list[ModelConfig]:
    """The models in a file of `--model-config-file` (model_server_config.proto).

    Raises:
        ValueError: If the file is not such a message, or TF Serving would refuse it.
        OSError: If the file can't be read.
    """
    message = _parse(path, ModelServerConfig())
    if message.WhichOneof("config") != "model_config_list":
        raise ValueError(f"{path} has no model_config_list")
    configs: dict[str, ModelConfig] = {}
    for model in message.model_config_list.config:
        if model.name in configs:
            raise ValueError(
                f"{path}: Illegal to list model {model.name} multiple times in config "
                "list"
            )
        configs[model.name] = _model(path, model)
    return list(configs.values())


def read_batching(path: Path, default: Batching) -> Batching:
    """The batching of a file of `--batching-parameters-file`, for every model.

    What the file leaves out is as in `default`. Only sizes, waiting time and threads
    have a meaning here; the other fields are accepted.

    Raises:
        ValueError: If the file is not such a message, or TF Serving would refuse it.
        OSError: If the file can't be read.
    """
    message = _parse(path, _MESSAGES["BatchingParameters"]())
    fields = {
        "rows": ("max_batch_size", 1),
        "micros": ("batch_timeout_micros", 0),
        "threads": ("num_batch_threads", 1),
    }
    found = {}
    for attribute, (field, least) in fields.items():
        if message.HasField(field):
            found[attribute] = getattr(message, field).value
            if found[attribute] < least:
                raise ValueError(
                    f"{path}: {field} must be at least {least}. Received: "
                    f"{found[attribute]}"
                )
    sizes = list(message.allowed_batch_sizes)
    rows = found.get("rows", default.rows)
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != rows):
        raise ValueError(
            f"{path}: allowed_batch_sizes must increase and end with max_batch_size, "
            f"{rows}. Received: {sizes}"
        )
    return dataclasses.replace(default, every=True, **found)


def read_metrics_path(path: Path) -> str | None:
    """The path of the metrics in a file of `--monitoring-config-file`, if enabled.

    Raises:
        ValueError: If the file is not such a message, or its path does not begin with
            a slash.
        OSError: If the file can't be read.
    """
    prometheus = _parse(path, _MESSAGES["MonitoringConfig"]()).prometheus_config
    if not prometheus.enable:
        return None
    if not (prometheus.path or "/").startswith("/"):
        raise ValueError(
            f"{path}: the path of prometheus_config must begin with /. Received: "
            f"{prometheus.path!r}"
        )
    return prometheus.path or METRICS_PATH


def _model(path: Path, model: ModelConfigMessage) -> ModelConfig:
    """One model, by the rules of server_core.cc."""
    platform = model.model_platform
    if model.model_type == ModelType.TENSORFLOW and not platform:
        platform = "tensorflow"  # the field that model_platform replaces
    if not model.name:
        raise ValueError(f"{path}: a model has no name")
    if platform not in FILES:
        raise ValueError(
            f"{path}: the model_platform of model {model.name} must be one of "
            f"{', '.join(FILES)}. Received: {platform!r}"
        )
    if not Path(model.base_path).is_absolute():
        raise ValueError(
            f"{path}: Expected model {model.name} to have an absolute path or URI; got "
            f"base_path()={model.base_path}"
        )
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice") or "latest"
    return ModelConfig(
        model.name,
        Path(model.base_path),
        latest=max(policy.latest.num_versions, 1) if choice == "latest" else 0,
        every=choice == "all",
        numbers=tuple(policy.specific.versions),
        labels=dict(model.version_labels),
        runtime=platform,
    )


def _parse(path: Path, message: Message) -> Message:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        name = message.DESCRIPTOR.name
        raise ValueError(f"{path} is not a {name} in text form: {error}") from None


# Messages that the package tensorflow-serving-api leaves out: those of
# session_bundle_config.proto and monitoring_config.proto.
_MISSING = """
name: "keras_inception/serving_config.proto" package: "keras_inception"
syntax: "proto3" dependency: "google/protobuf/wrappers.proto"
message_type { name: "BatchingParameters"
  field { name: "max_batch_size" number: 1 NUMBER }
  field { name: "batch_timeout_micros" number: 2 NUMBER }
  field { name: "max_enqueued_batches" number: 3 NUMBER }
  field { name: "num_batch_threads" number: 4 NUMBER }
  field { name: "thread_pool_name" number: 5 type: TYPE_MESSAGE
          type_name: ".google.protobuf.StringValue" }
  field { name: "allowed_batch_sizes" number: 6 type: TYPE_INT64
          label: LABEL_REPEATED }
  field { name: "pad_variable_length_inputs" number: 7 type: TYPE_BOOL }
  field { name: "enable_large_batch_splitting" number: 8 type: TYPE_MESSAGE
          type_name: ".google.protobuf.BoolValue" }
  field { name: "max_execution_batch_size" number: 9 NUMBER }
}
message_type { name: "PrometheusConfig"
  field { name: "enable" number: 1 type: TYPE_BOOL }
  field { name: "path" number: 2 type: TYPE_STRING }
}
message_type { name: "MonitoringConfig"
  field { name: "prometheus_config" number: 1 type: TYPE_MESSAGE
          type_name: ".keras_inception.PrometheusConfig" }
}
""".replace("NUMBER", 'type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value"')


def _build() -> dict[str, type[Message]]:
    # so that the default pool knows the file that the messages need
    from google.protobuf import wrappers_pb2  # noqa: F401

    pool = descriptor_pool.Default()
    described = text_format.Parse(_MISSING, descriptor_pb2.FileDescriptorProto())
    file = pool.AddSerializedFile(described.SerializeToString())
    return {
        name: message_factory.GetMessageClass(kind)
        for name, kind in file.message_types_by_name.items()
    }


_MESSAGES = _build()
