"""Training runs: recipes, their directory and checkpoints, what watches and shows."""

from keras_inception.training.alarms import Alarms, DivergenceError
from keras_inception.training.board import TensorBoard
from keras_inception.training.callbacks import MONITOR, History, KeepBest, Progress
from keras_inception.training.checkpoint import load_checkpoint, save_checkpoint
from keras_inception.training.heads_over_time import AuxiliarySchedule
from keras_inception.training.recipes import RECIPES, Recipe, learning_rate, optimizer
from keras_inception.training.run import RunDirectory, train

__all__ = [
    "MONITOR",
    "RECIPES",
    "Alarms",
    "AuxiliarySchedule",
    "DivergenceError",
    "History",
    "KeepBest",
    "Progress",
    "Recipe",
    "RunDirectory",
    "TensorBoard",
    "learning_rate",
    "load_checkpoint",
    "optimizer",
    "save_checkpoint",
    "train",
]
