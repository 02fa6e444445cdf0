"""Exports a classifier: its main output only, with class names.

A SavedModel for TF Serving, or a file for another runtime, appears whole in
`saved_models/NAME/VERSION/`, by rename, after what was written has been loaded and
compared with the model in memory.

    saved_model    writes a SavedModel
    formats        exports to ONNX, OpenVINO and LiteRT, and opens the files
    writers        writes a file for a runtime
    exits_file     writes early exits as one file that skips
    exit_graph     composes the segments of early exits to one ONNX graph
    onnx_graphs    builds and changes ONNX graphs
    sessions       ONNX and OpenVINO files as functions of named arrays
    preparation    what both begin with: backend, main output, class names, exits
    signatures     the signatures of a SavedModel, each with its warm-up request
    warmup         TF Serving's warm-up file: writes, reads and replays it
    model_card     model_card.md: data, accuracy, signatures, checksums
    folding        rewrites a network for inference: folded batch norm, other dtypes
    quantization   8-bit integers
    versioning     version directories: next number, publish, rollback, prune
    classifier     an exported version, or a model in memory, as a Python function
"""

from keras_inception.export.classifier import ModelClassifier, load_classifier
from keras_inception.export.formats import FORMATS, export_format, open_file
from keras_inception.export.saved_model import export_saved_model
from keras_inception.export.versioning import prune, rollback, versions

__all__ = [
    "FORMATS",
    "ModelClassifier",
    "export_format",
    "export_saved_model",
    "load_classifier",
    "open_file",
    "prune",
    "rollback",
    "versions",
]
