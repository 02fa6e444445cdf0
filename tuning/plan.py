"""The plan of a search: its data, network, space and directory, from its options."""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
from tqdm import tqdm

from keras_inception import ARCHITECTURES, data, networks
from keras_inception.defaults import (
    default_architecture,
    default_input_size,
    input_size_of,
)
from keras_inception.files import read_json, write_json
from keras_inception.graph import has_batch_norm
from keras_inception.locks import locked
from keras_inception_cli.data_options import describe_data, find_data
from tuning import options as command_line
from tuning.crash_safe_oracles import oracle
from tuning.hypermodel import HeadsHyperModel
from tuning.results import CHOICES, TRIALS, seeds_of
from tuning.settings import short
from tuning.space import Space, endpoints_of_network, fitting_endpoints
from tuning.tuner import HeadsTuner

# Choices whose name in search.json is that of the recipe's field or of the option.
RECIPE_CHOICES = ("epochs", "batch_size", "learning_rate", "batch_norm")
OPTION_CHOICES = (
    *("recipe", "width", "mirror", "tune_learning_rate", "most_heads"),
    *("tuner", "trials", "executions", "seed", "network", "weights"),
)
# not in the files of earlier searches
NEW_CHOICES = {"class_names", "pictures", "dataset"}


class Plan(NamedTuple):
    """Everything that a process needs to take part in a search."""

    choices: dict[str, Any]  # the content of search.json, shared by a resumed search
    heading: str  # describes the search to people
    make_tuner: Callable[[tqdm], HeadsTuner]  # reads the trials of an earlier process


def make_plan(options: argparse.Namespace) -> Plan:
    """Finds the data, and chooses the defaults that depend on it."""
    recipe = command_line.recipe(options)
    source = find_data(options)
    if not len(source.validation):
        raise ValueError(
            f"{options.data} has no usable validation pictures. The search compares "
            "settings by their validation accuracy."
        )
    size = source.picture_size
    architecture = ARCHITECTURES.get(options.architecture, default_architecture(size))
    image_size = options.image_size or default_input_size(architecture, size)
    wanted = options.endpoints
    network, name = None, architecture.name
    too_small: dict[str, int] = {}
    if options.network:
        network = functools.partial(_network, options, source)
        plain = network()
        name, image_size = plain.name, input_size_of(plain)
        recipe = dataclasses.replace(recipe, batch_norm=has_batch_norm(plain))
        endpoints = endpoints_of_network(plain, wanted)
    else:
        endpoints, too_small = fitting_endpoints(architecture, image_size, wanted)
    rate = recipe.learning_rate if options.tune_learning_rate else None
    space = Space(endpoints, options.most_heads, recipe.batch_norm, rate)

    pictures = functools.partial(
        data.load,
        source,
        image_size,
        recipe.batch_size,
        augment=recipe.augment,
        mirror=options.mirror,
    )

    def make_tuner(bar: tqdm) -> HeadsTuner:
        hypermodel = HeadsHyperModel(
            space,
            len(source.class_names),
            image_size,
            architecture,
            steps_per_epoch=-(-len(source.train) // recipe.batch_size),
            width=options.width,
            network=network,
            recipe=recipe,
        )
        return HeadsTuner(
            oracle(options.tuner, space, options.trials, recipe.epochs, options.seed),
            hypermodel,
            options.directory,
            pictures,
            seed=options.seed,
            executions=options.executions,
            bar=bar,
        )

    choices = {
        "data": str(options.data),
        "name": source.name,
        "train": len(source.train),
        "validation": len(source.validation),
        "classes": len(source.class_names),
        "class_names": source.class_names,
        "pictures": _digest(source),
        "dataset": source.dataset,
        "architecture": name,
        "image_size": image_size,
        "augment": pictures().augmentation,
        "places": list(endpoints),  # the key in the files of earlier searches
        **{name: getattr(recipe, name) for name in RECIPE_CHOICES},
        **{name: getattr(options, name) for name in OPTION_CHOICES},
    }
    lines = [
        f"{describe_data(source)}, augmentation: {choices['augment']}",
        f"{name} at {image_size}x{image_size}, width {options.width:g}, "
        f"recipe {options.recipe}, {recipe.epochs} epochs",
        f"{options.trials} trials, {options.tuner}: up to {options.most_heads} heads "
        f"at {' '.join(map(short, endpoints))}, {seeds_of(choices)} each",
    ]
    if too_small:
        maps = ", ".join(f"{short(name)} ({n}x{n})" for name, n in too_small.items())
        lines.append(
            f"skipped, since a head's pool needs a map of at least 5x5: {maps}"
        )
    if space.paper is None:
        lines.append("skipped: the paper's setting, which is not in this space")
    return Plan(choices, "\n".join(lines), make_tuner)


def _digest(source: data.Source) -> str | None:
    """A number for the pictures with their labels, splits and sizes in bytes."""
    manifest = data.Manifest.of(source)
    if manifest is None:
        return None
    return hashlib.sha256(
        repr(sorted(manifest.rows)).encode(errors="surrogateescape")
    ).hexdigest()


def _network(options: argparse.Namespace, source: data.Source) -> keras.Model:
    """Builds the network of `--network` without heads."""
    weights = None if options.weights == "none" else options.weights
    return networks.plain_network(
        options.network,
        source.class_names,
        source.picture_size,
        options.image_size,
        weights,
    )[0]


@contextlib.contextmanager
def hold_directory(
    directory: Path, choices: Mapping[str, Any], *, overwrite: bool
) -> Iterator[None]:
    """Holds a search's directory for this process, and writes the choices to it.

    A resumed search must have the same choices, except for the number of trials.
    """
    file = directory / CHOICES
    entries = {path.name for path in directory.glob("[!.]*")}
    if not file.is_file() and entries - {"logs", TRIALS}:  # of workers that were faster
        raise FileExistsError(
            f"{directory} already exists and is not a search's directory. Use another "
            "--directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / ".lock") as free:
        if not free:
            raise FileExistsError(
                f"Another process is searching in {directory}. Wait for it, or stop it."
            )
        if overwrite and file.is_file():
            for entry in directory.glob("[!.]*"):
                if entry.name != "logs":  # the workers of this search write there
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        now = json.loads(json.dumps(choices))
        before = read_json(file, Mapping[str, Any]) if file.is_file() else now
        free = {"trials"} | (NEW_CHOICES - before.keys())
        differences = [
            f"{name} was {before.get(name)!r}, is {value!r}"
            if name != "pictures"
            else "the pictures, their labels or their splits have changed"
            for name, value in now.items()
            if name not in free and before.get(name) != value
        ]
        if differences:
            raise ValueError(
                f"{directory} holds a search with other choices: "
                f"{'; '.join(differences)}. Use the same ones to resume it, "
                "--overwrite to delete it, or another --directory."
            )
        write_json(file, dict(choices))
        yield
