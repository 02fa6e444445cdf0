"""The candidates of the benchmarks: each function sets one up, in its process.

All get the same number of threads, and inputs that are made once. The function that
each returns takes a batch size, and returns when the result is computed.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.torchvision_import import import_torchvision

IMAGE_SIZE, CLASSES = 224, 1000
Call = Callable[[int], object]


def pixels(batch: int, channels_first: bool = False) -> np.ndarray:
    """Random pictures 0..255, the same for every candidate."""
    images = np.random.default_rng(0).uniform(
        0, 255, (batch, IMAGE_SIZE, IMAGE_SIZE, 3)
    )
    images = images.astype("float32")
    return (
        np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if channels_first else images
    )


class Batches(dict):
    """Inputs by batch size, made at their first use."""

    def __init__(self, make: Callable[[int], object]):
        self.make = make

    def __missing__(self, batch: int):
        self[batch] = self.make(batch)
        return self[batch]


def saved_model(path: str, threads: int) -> Call:
    """`serving_default` of an exported version, as TF Serving runs it."""
    tf = start_tensorflow(threads)
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    inputs = Batches(lambda batch: tf.constant(pixels(batch)))
    # The signature does not keep the loaded model alive.
    return lambda batch, _=loaded: signature(images=inputs[batch])["main"].numpy()


def keras_predict(model: str, threads: int) -> Call:
    """Keras's `predict` on a `.keras` file, or on InceptionV3 with random weights."""
    start_tensorflow(threads)
    import keras

    import keras_inception  # noqa: F401 registers the file's classes

    if model == "InceptionV3":
        network = keras.applications.InceptionV3(
            weights=None, input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3)
        )
    else:
        network = keras.saving.load_model(model, compile=False)
    inputs = Batches(pixels)
    return lambda batch: network.predict(inputs[batch], batch_size=batch, verbose=0)


def early_exit(model: str, threshold: float, threads: int) -> Call:
    """`EarlyExit.predict`; with threshold 0 all pictures leave at the first exit."""
    start_tensorflow(threads)
    import keras

    import keras_inception as ki

    network = keras.saving.load_model(model, compile=False)
    exits = ki.EarlyExit(network, dict.fromkeys(network.heads, threshold))
    inputs = Batches(pixels)
    return lambda batch: exits.predict(inputs[batch], batch_size=batch)


def onnx_runtime(path: str, threads: int, channels_first: bool = False) -> Call:
    """A file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    inputs = Batches(lambda batch: pixels(batch, channels_first))
    return lambda batch: session.run(None, {"images": inputs[batch]})[0]


def openvino(path: str, threads: int, channels_first: bool = False) -> Call:
    """A file in OpenVINO, in float32 (its default here is bfloat16)."""
    from openvino import Core

    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    hints["PERFORMANCE_HINT"] = "LATENCY"
    request = Core().compile_model(path, "CPU", hints).create_infer_request()
    inputs = Batches(lambda batch: pixels(batch, channels_first))
    return lambda batch: request.infer({"images": inputs[batch]}, share_inputs=True)[0]


def torchvision(threads: int, compiled: bool = False, bfloat16: bool = False) -> Call:
    """torchvision's network, channels-last; only `torch.compile` folds it."""
    torch, network = _torchvision(threads, heads=False)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    network = network.eval().to(dtype)
    if compiled:
        network = torch.compile(network)
    inputs = Batches(
        lambda batch: torch.from_numpy(pixels(batch, True)).to(
            dtype, memory_format=torch.channels_last
        )
    )

    def call(batch: int):
        with torch.inference_mode():
            return network(inputs[batch]).float().numpy()

    return call


def torchvision_int8(threads: int) -> Call:
    """torchvision's quantized network, its ranges measured on eight pictures."""
    torch, _ = _torchvision(threads, heads=False)
    from torchvision.models.quantization import googlenet

    network = googlenet(weights=None, init_weights=False, aux_logits=False).eval()
    network.fuse_model()
    torch.backends.quantized.engine = "x86"
    network.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    torch.ao.quantization.prepare(network, inplace=True)
    inputs = Batches(
        lambda batch: torch.from_numpy(pixels(batch, True)).to(
            memory_format=torch.channels_last
        )
    )
    with torch.inference_mode():
        network(inputs[8])
    torch.ao.quantization.convert(network, inplace=True)

    def call(batch: int):
        with torch.inference_mode():
            return network(inputs[batch]).numpy()

    return call


def keras_training(
    threads: int,
    architecture: str = "googlenet",
    batch_norm: bool = False,
    bfloat16: bool = False,
) -> Call:
    """A training step of our network with both heads: SGD with momentum."""
    start_tensorflow(threads)
    import keras

    import keras_inception as ki

    keras.utils.set_random_seed(0)
    if bfloat16:  # as `keras-inception train --mixed-precision bfloat16`
        keras.config.set_dtype_policy("mixed_bfloat16")
    table = ki.ARCHITECTURES[architecture]
    model = ki.GoogLeNet(architecture=table, batch_norm=batch_norm)
    model.compile(keras.optimizers.SGD(0.001, momentum=0.9))
    inputs = Batches(lambda batch: (pixels(batch), _labels(batch)))
    return lambda batch: model.train_on_batch(*inputs[batch])


def torchvision_training(
    threads: int, compiled: bool = False, bfloat16: bool = False
) -> Call:
    """The same step on torchvision's network with both heads, channels-last."""
    torch, network = _torchvision(threads, heads=True)
    network = network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.001, momentum=0.9)
    loss = torch.nn.functional.cross_entropy
    forward = torch.compile(network) if compiled else network
    inputs = Batches(
        lambda batch: (
            torch.from_numpy(pixels(batch, True) / 128 - 1).contiguous(
                memory_format=torch.channels_last
            ),
            torch.from_numpy(_labels(batch)),
        )
    )

    def call(batch: int):
        images, labels = inputs[batch]
        optimizer.zero_grad()
        with torch.autocast("cpu", enabled=bfloat16):
            main, second, first = forward(images)
            heads = loss(first, labels) + loss(second, labels)
            total = loss(main, labels) + 0.3 * heads
        total.backward()
        optimizer.step()
        return total.item()

    return call


def export_ours(architecture: str, folder: str) -> None:
    """Exports our network with random weights in every measured format."""
    start_tensorflow(os.cpu_count())
    import keras

    import keras_inception as ki

    keras.utils.set_random_seed(0)
    table = ki.ARCHITECTURES[architecture]
    model = ki.GoogLeNet(architecture=table, batch_norm=table is not ki.GOOGLENET)
    ki.export.export_saved_model(model, folder)
    ki.export.export_saved_model(model, Path(folder, "bfloat16"), dtype="bfloat16")
    for name in ("onnx", "openvino"):
        ki.export.export_format(model, Path(folder, name), name)
        int8 = Path(folder, f"{name}-int8")
        ki.export.export_format(model, int8, name, calibration=[pixels(8)])
    model.save(Path(folder, "model.keras"))


def export_torchvision(path: str) -> None:
    """Writes torchvision's network without its heads as ONNX."""
    torch, network = _torchvision(os.cpu_count(), heads=False)
    batch = {0: "batch"}
    torch.onnx.export(
        network.eval(),
        torch.from_numpy(pixels(1, True)),
        path,
        input_names=["images"],
        output_names=["main"],
        dynamic_axes={"images": batch, "main": batch},
        dynamo=False,
    )


def _labels(batch: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, batch)


def start_tensorflow(threads: int):
    """TensorFlow with this many threads."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _torchvision(threads: int, heads: bool):
    """PyTorch, and torchvision's network with random weights in channels-last."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    googlenet = import_torchvision().models.googlenet
    network = googlenet(weights=None, aux_logits=True, init_weights=False)
    if not heads:
        network.aux_logits, network.aux1, network.aux2 = False, None, None
    return torch, network.to(memory_format=torch.channels_last)
