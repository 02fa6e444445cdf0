"""Inference compared with every peer, in turns: batches of 1, 8 and 32.

    python -m benchmarks.inference

Ours: the exported SavedModel as TF Serving runs it, the exported ONNX and OpenVINO
files in their runtimes, Keras's `predict`, and early exits with all pictures leaving at
the first exit or all at main. Peers: torchvision's network eager in channels-last, with
`torch.compile`, quantized, in ONNX Runtime and in OpenVINO; Keras's InceptionV3 as a
plausibility check. `same network` is torchvision's architecture, built and exported by
us: the paper's has larger kernels in its 5x5 branches, and response normalization.

Random weights, 224 pixels, 1,000 classes, float32 unless the name says otherwise.
Medians, quartiles and the medians of the rounds' ratios are written to
benchmarks/results/inference.csv, and a plot to inference.png.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.alternation import Candidate, Turn, in_turns
from benchmarks.tables import finish

PEER = "torchvision, ONNX Runtime"
TURNS = (Turn(1, 8), Turn(8), Turn(32))
NETWORKS = {"googlenet": "googlenet", "same network": "googlenet_torchvision"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--only",
        nargs="+",
        help="measure only candidates whose name contains one of these",
    )
    parser.add_argument("--files", type=Path, help="folder where exports are kept")
    parser.add_argument("--prepare", action="store_true", help="only write the exports")
    parser.add_argument("--name", default="inference", help="name of the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or Path(folder)
        prepare(files)
        if options.prepare:
            return
        candidates = [
            candidate
            for candidate in compared(files, options.threads)
            if candidate.name == PEER
            or not options.only
            or any(word in candidate.name for word in options.only)
        ]
        rows = in_turns(candidates, TURNS, options.rounds)
    finish(options.name, rows, PEER, options.threads)


def compared(files: Path, threads: int) -> list[Candidate]:
    """Every candidate, set up from the files that `prepare` wrote."""

    def candidate(name, function, **arguments):
        setup = f"benchmarks.candidates:{function}"
        return Candidate(name, setup, {"threads": threads} | arguments)

    ours = []
    for name, network in NETWORKS.items():
        at = files / network
        bfloat16 = f"{at}/bfloat16/1"
        ours += [
            candidate(f"{name}, SavedModel", "saved_model", path=f"{at}/1"),
            candidate(f"{name}, SavedModel, bfloat16", "saved_model", path=bfloat16),
        ]
        for kind in ("", "-int8"):
            openvino = f"{at}/openvino{kind}/1/model.xml"
            onnx = f"{at}/onnx{kind}/1/model.onnx"
            kind = kind.replace("-", ", ")
            ours += [
                candidate(f"{name}, OpenVINO{kind}", "openvino", path=openvino),
                candidate(f"{name}, ONNX Runtime{kind}", "onnx_runtime", path=onnx),
            ]
    model = f"{files}/googlenet/model.keras"
    return [
        *ours,
        candidate("googlenet, predict", "keras_predict", model=model),
        candidate("googlenet, all leave early", "early_exit", model=model, threshold=0),
        candidate(
            "googlenet, none leaves early", "early_exit", model=model, threshold=1.1
        ),
        candidate("torchvision, eager", "torchvision"),
        candidate("torchvision, torch.compile", "torchvision", compiled=True),
        candidate(
            "torchvision, torch.compile, bfloat16",
            "torchvision",
            compiled=True,
            bfloat16=True,
        ),
        candidate("torchvision, quantized, int8", "torchvision_int8"),
        candidate(
            PEER, "onnx_runtime", path=f"{files}/torchvision.onnx", channels_first=True
        ),
        candidate(
            "torchvision, OpenVINO",
            "openvino",
            path=f"{files}/torchvision.onnx",
            channels_first=True,
        ),
        candidate("InceptionV3, predict", "keras_predict", model="InceptionV3"),
    ]


def prepare(files: Path) -> None:
    """Writes the missing exports, each in its own process, which frees its memory."""
    files.mkdir(exist_ok=True)
    if not (files / "torchvision.onnx").exists():
        _python(
            "from benchmarks.candidates import export_torchvision as export; "
            f"export({str(files / 'torchvision.onnx')!r})"
        )
    for network in NETWORKS.values():
        if not (files / network).exists():
            _python(
                "from benchmarks.candidates import export_ours as export; "
                f"export({network!r}, {str(files / network)!r})"
            )


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    main()
