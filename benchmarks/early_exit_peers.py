"""Early exits of ResNet-50 beside those of earlyon, in turns: batches of 1 and 32.

    pip install earlyon
    python -m benchmarks.early_exit_peers

earlyon, for PyTorch, puts the same three exits on torchvision's network as are put here
on that of `keras.applications`: after its first three stages. Random weights, 224
pixels, 1,000 classes. For each: the network alone, all pictures leaving at the first
exit, and none leaving early, which is what the exits themselves cost. In "half leave"
the threshold is the median confidence at the first exit: earlyon then computes all
pictures of a batch to the end, while here those that stay continue alone. Writes
benchmarks/results/early_exit_peers.csv and a plot.
"""

import argparse
import os

import numpy as np

from benchmarks.alternation import Candidate, Turn, in_turns
from benchmarks.candidates import Batches, Call, pixels, start_tensorflow
from benchmarks.tables import finish
from benchmarks.torchvision_import import import_torchvision

RESNET_EXITS = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out")
LEAVING = ("alone", "none leaves", "half leave", "all leave")


def resnet_exits(threads: int, leaving: str) -> Call:
    """`EarlyExit.predict` on Keras's ResNet-50."""
    start_tensorflow(threads)
    import keras

    import keras_inception as ki

    keras.utils.set_random_seed(0)
    network = keras.applications.ResNet50(weights=None)
    model = ki.attach_auxiliary(network, [ki.AuxiliaryHead(at) for at in RESNET_EXITS])
    names = [] if leaving == "alone" else list(model.heads)
    inputs = Batches(pixels)
    thresholds = dict.fromkeys(names, 0.0 if leaving == "all leave" else 1.1)
    if leaving == "half leave":
        never = ki.EarlyExit(model, thresholds)
        first = model.predict(inputs[32], verbose=0)[names[0]]
        confidences = np.asarray(never.confidences(names[0], first))
        thresholds[names[0]] = float(np.median(confidences))
    exits = ki.EarlyExit(model, thresholds)
    return lambda batch: exits.predict(inputs[batch], batch_size=batch)


def earlyon_exits(threads: int, leaving: str) -> Call:
    """earlyon's routing on torchvision's ResNet-50."""
    import torch

    import_torchvision()
    from earlyon.models import resnet50_ee

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = resnet50_ee(num_classes=1000, pretrained=False).eval()
    inputs = Batches(lambda batch: torch.from_numpy(pixels(batch, True) / 255))
    level = 0.0 if leaving == "all leave" else 1.0
    model.config.confidence_thresholds = [level, 1.0, 1.0]

    def routed(batch: int):
        if batch == 1:
            return model(inputs[1], mode="inference").prediction
        return model.forward_inference_batched(inputs[batch]).predictions

    def alone(batch: int):
        with torch.inference_mode():
            return model.backbone(inputs[batch])

    if leaving == "half leave":
        model.config.confidence_thresholds = [0.0, 1.0, 1.0]
        found = model.forward_inference_batched(inputs[32])
        median = float(found.per_sample_confidence.median())
        model.config.confidence_thresholds = [median, 1.0, 1.0]
    return alone if leaving == "alone" else routed


def main() -> None:
    """Measures both, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    candidates = [
        Candidate(
            f"{name}, {leaving}",
            f"benchmarks.early_exit_peers:{setup}",
            {"threads": options.threads, "leaving": leaving},
        )
        for name, setup in (
            ("keras-inception", "resnet_exits"),
            ("earlyon", "earlyon_exits"),
        )
        for leaving in LEAVING
    ]
    rows = in_turns(candidates, (Turn(1, 4), Turn(32)), options.rounds)
    finish("early_exit_peers", rows, "earlyon, alone", options.threads)


if __name__ == "__main__":
    main()
