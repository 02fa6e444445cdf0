"""Training runs: recipes, their directory and checkpoints, what watches and shows."""

from keras_inception.training.alarms import Alarms, DivergenceError
from keras_inception.training.auxiliary_schedule import AuxiliarySchedule
from keras_inception.training.callbacks import MONITOR, History, KeepBest, Progress
from keras_inception.training.checkpoint import load_checkpoint, save_checkpoint
from keras_inception.training.devices import Devices
from keras_inception.training.multi_worker import multi_worker_strategy
from keras_inception.training.recipes import RECIPES, Recipe, learning_rate, optimizer
from keras_inception.training.run import train
from keras_inception.training.run_directory import RunDirectory, RunFiles
from keras_inception.training.tensorboard import TensorBoard

__all__ = [
    "MONITOR",
    "RECIPES",
    "Alarms",
    "AuxiliarySchedule",
    "Devices",
    "DivergenceError",
    "History",
    "KeepBest",
    "Progress",
    "Recipe",
    "RunDirectory",
    "RunFiles",
    "TensorBoard",
    "learning_rate",
    "load_checkpoint",
    "multi_worker_strategy",
    "optimizer",
    "save_checkpoint",
    "train",
]
