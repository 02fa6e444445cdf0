"""Pictures of a zip file, read without TensorFlow."""

import concurrent.futures
import io
import multiprocessing
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

CHUNK = 2000  # files that a process decodes at a time


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
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::stride]
        files = [archive.read(name) for name in names]

    chunks = [files[first : first + CHUNK] for first in range(0, len(files), CHUNK)]
    # Not threads: what Python does for each small file takes longer than decoding. Not
    # forked: JAX, if it is imported, has threads.
    workers = min(len(chunks), os.cpu_count() or 1)
    spawned = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, spawned) as pool:
        images = np.concatenate(list(pool.map(decode, chunks)))
    split, classes = zip(*(name.split("/")[-3:-1] for name in names), strict=True)
    class_names, labels = np.unique(classes, return_inverse=True)
    train, labels = np.array(split) == "train", labels.astype("int32")
    return ZippedPictures(
        (images[train], labels[train]),
        (images[~train], labels[~train]),
        class_names.tolist(),
    )


def decode(files: list[bytes]) -> np.ndarray:
    """The pixels of encoded pictures of one size, uint8."""
    from PIL import Image

    pixels = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return np.stack(pixels)
