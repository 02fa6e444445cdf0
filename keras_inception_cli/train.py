"""Train GoogLeNet with its auxiliary classifiers on pictures.

Writes RUNS/NAME: config.json, history.csv, model.keras (the epoch with the best
val_main_accuracy), latest.keras (from which --resume continues), tensorboard/ and
result.json.
"""

import argparse

from keras_inception_cli.console import quiet_start
from keras_inception_cli.train_options import add_arguments

__all__ = ["add_arguments", "run"]


def run(options: argparse.Namespace) -> None:
    """Trains a network and leaves a run directory."""
    with quiet_start():
        from keras_inception_cli import train_session

    train_session.run(options)
