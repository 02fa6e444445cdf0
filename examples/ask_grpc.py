"""Ask a served model about picture files over gRPC.

Works with TF Serving and with `keras-inception serve`. `tensorflow-serving-api`, which
keras-inception installs, has the messages and the stub:

python examples/ask_grpc.py 127.0.0.1:8500 digits five.png nine.png
"""

import sys
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def main(address: str, name: str, *files: str) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = "serving_bytes"
    contents = [Path(file).read_bytes() for file in files]
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(contents))
    with grpc.insecure_channel(address) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = service.Predict(request, timeout=30).outputs
    classes = tf.make_ndarray(outputs["classes"])
    scores = tf.make_ndarray(outputs["scores"])
    for index, file in enumerate(files):
        print(f"{file}: {classes[index, 0].decode()} ({scores[index, 0]:.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
