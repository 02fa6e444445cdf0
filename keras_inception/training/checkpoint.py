"""Checkpoints from which a killed run resumes to the bit."""

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from keras_inception.files import write_whole
from keras_inception.graph import random_states

STATE, SEEDS = "run_state.json", "run_seeds.npz"


def save_checkpoint(model: keras.Model, path: str | Path, state: dict) -> None:
    """Writes a `.keras` file that also holds what training needs to resume.

    Keras saves weights, optimizer and compile arguments; this adds the states of
    dropout's random generators and `state`. Writes the file whole or not at all.

    Args:
        model: A compiled model.
        path: A file that ends in `.keras`.
        state: The rest of the run's state; JSON.

    Raises:
        OSError: If the file cannot be written; an earlier file stays intact.
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
        raise OSError(f"{error} Free some space and continue with --resume.") from error


def load_checkpoint(path: str | Path) -> tuple[keras.Model, dict]:
    """Loads a checkpoint's model, compiled as it was, and the run's state."""
    state = checkpoint_state(path)
    with zipfile.ZipFile(path) as archive:
        seeds = np.load(io.BytesIO(archive.read(SEEDS)))
    model = keras.saving.load_model(path)
    for index, variable in enumerate(random_states(model)):
        variable.assign(seeds[str(index)])
    return model, state


def checkpoint_state(path: str | Path) -> dict:
    """Reads a checkpoint's state; a `ValueError` if the file is not a checkpoint."""
    path = Path(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a checkpoint of a run.")
    with zipfile.ZipFile(path) as archive:
        if STATE not in archive.namelist():
            raise ValueError(
                f"{path} is a model but not a checkpoint: it has no {STATE}. A run's "
                "checkpoint is its latest.keras."
            )
        return json.loads(archive.read(STATE))


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Gives the model its optimizer's averaged weights for the block, if it has them.

    Polyak averaging (section 6 of the paper) is `use_ema` of Keras's optimizers.
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
