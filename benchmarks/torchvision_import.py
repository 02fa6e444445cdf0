"""Imports torchvision, even beside a torch that its compiled operators do not fit.

For the benchmarks and the tests, which compare with torchvision's network in Python.
"""

import importlib
import sys
from types import ModuleType


def import_torchvision() -> ModuleType:
    """Imports torchvision; where that fails, declares the operators that it misses.

    torchvision's wheel is built for PyPI's torch, whose CUDA library its operators
    need. Beside a CPU build of torch they do not load, and the import then fails where
    it describes two of them, for object detection. Declared without an implementation
    they do no harm. Never declare them first: beside the torch that fits, torchvision
    would declare them a second time, which aborts the process.

    Raises:
        ImportError, RuntimeError: If torchvision can't be imported even so.
    """
    import torch

    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # imported halfway
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor boxes, Tensor scores, float limit) -> Tensor")
    torchvision = importlib.import_module("torchvision")
    # The declarations last as long as this object does.
    torchvision._declared_operators = operators
    return torchvision
