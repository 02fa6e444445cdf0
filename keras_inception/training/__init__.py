"""Training runs: their directory, their progress, what TensorBoard shows of them."""

from keras_inception.training.board import TensorBoard
from keras_inception.training.callbacks import MONITOR, KeepBest, Progress
from keras_inception.training.run import RunDirectory, train, write_json

__all__ = [
    "MONITOR",
    "KeepBest",
    "Progress",
    "RunDirectory",
    "TensorBoard",
    "train",
    "write_json",
]
