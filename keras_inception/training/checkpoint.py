"""Checkpoints from which a killed run goes on as if nothing had happened."""

import contextlib
import io
import json
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_inception.files import write_whole
from keras_inception.graph import random_states

STATE, SEEDS = "run_state.json", "run_seeds.npz"


def save_checkpoint(model: keras.Model, path: str | Path, state: dict) -> None:
    """Writes a `.keras` file that also holds what training needs to go on.

    Keras saves weights, optimizer and compile arguments; the states of dropout's random
    generators and `state` are added. The file appears by rename, whole or not at all.

    Args:
        model: A compiled model.
        path: A file that ends in `.keras`.
        state: What else the run must remember; JSON.

    Raises:
        OSError: If the file can't be written; what was there before is intact.
    """
    path = Path(path)
    seeds = io.BytesIO()
    values = map(keras.ops.convert_to_numpy, random_states(model))
    np.savez(seeds, **{str(index): value for index, value in enumerate(values)})

    def write(partial):
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(SEEDS, seeds.getvalue())
            archive.writestr(STATE, json.dumps(state))

    try:
        write_whole(path, write)
    except OSError as error:
        raise OSError(f"{error} Free some space and go on with --resume.") from error


def load_checkpoint(path: str | Path) -> tuple[keras.Model, dict]:
    """A checkpoint's model, compiled as it was, and the run's state.

    Raises:
        ValueError: If the file is no checkpoint.
    """
    state = checkpoint_state(path)
    with zipfile.ZipFile(path) as archive:
        seeds = np.load(io.BytesIO(archive.read(SEEDS)))
    model = keras.saving.load_model(path)
    for index, variable in enumerate(random_states(model)):
        variable.assign(seeds[str(index)])
    return model, state


def checkpoint_state(path: str | Path) -> dict:
    """The run's state in a checkpoint, without the model.

    Raises:
        ValueError: If the file is no checkpoint.
    """
    path = Path(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no checkpoint of a run.")
    with zipfile.ZipFile(path) as archive:
        if STATE not in archive.namelist():
            raise ValueError(
                f"{path} is a model but no checkpoint: it does not say where its run "
                "was. A run's checkpoint is its latest.keras."
            )
        return json.loads(archive.read(STATE))


@contextlib.contextmanager
def averaged_weights(model: keras.Model):
    """Within the block the model has its averaged weights, if its optimizer has them.

    Polyak's average, as the paper's section 6: `use_ema` of Keras's optimizers.
    """
    if not averages_weights(model):
        yield
        return
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
    try:
        yield
    finally:
        swap.on_test_end()


def averages_weights(model: keras.Model) -> bool:
    """Whether a compiled model's optimizer averages its weights."""
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return getattr(inner, "use_ema", False)
