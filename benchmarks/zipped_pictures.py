"""Pictures of a zip file, read without TensorFlow."""

import concurrent.futures
import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np


class ZippedPictures(NamedTuple):
    """Pixels uint8 `(pictures, height, width, 3)`, class indices int32, class names."""

    train: tuple[np.ndarray, np.ndarray]
    val: tuple[np.ndarray, np.ndarray]
    class_names: list[str]


def read_zip(path: str | Path, stride: int = 1) -> ZippedPictures:
    """Reads `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, all of one size.

    Args:
        path: The zip file.
        stride: Only every `stride`-th picture is read.
    """
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::stride]
        files = [archive.read(name) for name in names]

    def decode(file: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        images = np.stack(list(pool.map(decode, files, chunksize=500)))
    split, classes = zip(*(name.split("/")[-3:-1] for name in names), strict=True)
    class_names, labels = np.unique(classes, return_inverse=True)
    train, labels = np.array(split) == "train", labels.astype("int32")
    return ZippedPictures(
        (images[train], labels[train]),
        (images[~train], labels[~train]),
        class_names.tolist(),
    )
