"""Checkpoints from which a killed run resumes to the bit."""

import contextlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

import keras
import numpy as np

from keras_inception.files import parse_json, write_whole
from keras_inception.graph import random_states
from keras_inception.schema import Count, Seconds, check

STATE, SEEDS = "run_state.json", "run_seeds.npz"
ATTRIBUTION = "run_attribution.npz"


class BestState(TypedDict):
    """The best epoch so far, from 1, and its `val_main_accuracy`."""

    value: NotRequired[float | None]
    epoch: NotRequired[Count | None]


class AlarmsState(TypedDict):
    """The `state` of `Alarms`."""

    told: NotRequired[list[str]]
    at_chance: NotRequired[dict[str, Count]]
    behind: NotRequired[Count]


class RunState(TypedDict):
    """The progress of a run, in its checkpoint."""

    epochs: Count
    history: list[dict[str, float]]
    best: BestState
    alarms: AlarmsState
    seconds: Seconds


def save_checkpoint(model: keras.Model, path: str | Path, state: dict) -> None:
    """Writes a `.keras` file that also holds what training needs to resume.

    Keras saves weights, optimizer and compile arguments; this adds the states of
    dropout's random generators, the account of `LossAttribution` if there is one, and
    `state`. Writes the file whole or not at all.

    Args:
        model: A compiled model.
        path: A file that ends in `.keras`.
        state: The rest of the run's state; JSON.

    Raises:
        OSError: If the file cannot be written; an earlier file stays intact.
    """
    path = Path(path)
    states = enumerate(random_states(model))
    arrays = {SEEDS: {str(index): variable for index, variable in states}}
    if ledger := getattr(model, "attribution_ledger", None):
        arrays[ATTRIBUTION] = {v.name: v for v in ledger.variables}

    def write(partial):
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            for name, variables in arrays.items():
                values = map(keras.ops.convert_to_numpy, variables.values())
                contents = io.BytesIO()
                np.savez(contents, **dict(zip(variables, values, strict=True)))
                archive.writestr(name, contents.getvalue())
            archive.writestr(STATE, json.dumps(state))

    try:
        write_whole(path, write)
    except OSError as error:
        raise OSError(f"{error} Free some space and continue with --resume.") from error


def load_checkpoint(path: str | Path) -> tuple[keras.Model, dict]:
    """Loads a checkpoint's model, compiled as it was, and the run's state.

    The state has the arrays of `LossAttribution.state` as `attribution`, if it kept an
    account.

    Raises:
        ValueError: If the file is not a checkpoint, or is damaged.
    """
    state = checkpoint_state(path)
    try:
        with zipfile.ZipFile(path) as archive:
            seeds = np.load(io.BytesIO(archive.read(SEEDS)))
            if ATTRIBUTION in archive.namelist():
                arrays = np.load(io.BytesIO(archive.read(ATTRIBUTION)))
                state["attribution"] = dict(arrays)
        model = keras.saving.load_model(path)
        for index, variable in enumerate(random_states(model)):
            variable.assign(seeds[str(index)])
    except Exception as error:  # Keras, h5py, NumPy and zipfile raise their own types
        raise ValueError(
            f"{path} can't be loaded ({type(error).__name__}: {str(error)[:200]}). "
            "Start the run again with --overwrite."
        ) from error
    return model, state


def checkpoint_state(path: str | Path) -> dict:
    """Reads a checkpoint's state; a `ValueError` if the file is not a checkpoint."""
    fault = f"{path} is not a checkpoint of a run"
    try:
        with zipfile.ZipFile(path) as archive:
            if STATE not in archive.namelist():
                raise ValueError(
                    f"{path} is a model but not a checkpoint: it has no {STATE}. A "
                    "run's checkpoint is its latest.keras."
                )
            data = archive.read(STATE)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{fault}: {error}.") from None
    state = parse_json(data, f"{fault}: {STATE}")
    check(state, RunState, f"{fault}: in {STATE}")
    return state


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
