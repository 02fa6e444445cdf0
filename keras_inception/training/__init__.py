"""Training runs: a run directory, a loop that survives kills, and what it reports.

The files:

    run.py                 train(): fit inside a run directory
    run_directory.py       RunDirectory and RunConfig: a run's files and choices
    on_features.py         training on the features of a frozen trunk
    checkpoint.py          latest.keras, from which a run resumes to the bit
    recipes.py             recipes as data; learning rate and optimizer from them
    callbacks.py           history, best and latest model
    progress.py            a line per epoch, and the time left by pace.py
    stopping.py            patience, time limits, Ctrl-C
    plan.py                the recipe that suits the pictures
    alarms.py              losses that become NaN, outputs that do not learn
    auxiliary_schedule.py  the heads' loss weights over the epochs
    tensorboard.py         curves, settings, graph and predictions in TensorBoard
    past_runs.py           reading finished and interrupted runs
    plots.py               predictions and curves as pictures
    devices.py             several devices; multi_worker.py: several machines
"""

from keras_inception.training.alarms import Alarms, DivergenceError
from keras_inception.training.auxiliary_schedule import AuxiliarySchedule
from keras_inception.training.callbacks import (
    MONITOR,
    History,
    KeepBest,
    KeepLatest,
)
from keras_inception.training.checkpoint import load_checkpoint, save_checkpoint
from keras_inception.training.devices import Devices
from keras_inception.training.multi_worker import multi_worker_strategy
from keras_inception.training.on_features import FeatureBatches, compile_rest
from keras_inception.training.pace import Pace, measure_pace
from keras_inception.training.plan import Plan, make_plan
from keras_inception.training.progress import Progress
from keras_inception.training.recipes import RECIPES, Recipe, learning_rate, optimizer
from keras_inception.training.run import Interrupted, train
from keras_inception.training.run_directory import RunConfig, RunDirectory
from keras_inception.training.stopping import first_interrupt
from keras_inception.training.tensorboard import TensorBoard

__all__ = [
    "MONITOR",
    "RECIPES",
    "Alarms",
    "AuxiliarySchedule",
    "Devices",
    "DivergenceError",
    "FeatureBatches",
    "History",
    "Interrupted",
    "KeepBest",
    "KeepLatest",
    "Pace",
    "Plan",
    "Progress",
    "Recipe",
    "RunConfig",
    "RunDirectory",
    "TensorBoard",
    "compile_rest",
    "first_interrupt",
    "learning_rate",
    "load_checkpoint",
    "make_plan",
    "measure_pace",
    "multi_worker_strategy",
    "optimizer",
    "save_checkpoint",
    "train",
]
