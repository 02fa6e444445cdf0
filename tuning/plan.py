"""The plan of a search: its data, network and space, from its options."""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from tqdm import tqdm

from keras_inception import ARCHITECTURES, data
from keras_inception.defaults import default_architecture, default_input_size
from keras_inception_cli.data_options import find_data
from tuning import options as command_line
from tuning.crash_safe_oracles import oracle
from tuning.hypermodel import HeadsHyperModel
from tuning.progress import heading
from tuning.space import Space, fitting_endpoints
from tuning.tuner import HeadsTuner

# Choices whose name in search.json is that of the recipe's field or of the option.
RECIPE_CHOICES = ("epochs", "batch_size", "learning_rate", "batch_norm")
OPTION_CHOICES = (
    *("recipe", "width", "mirror", "tune_learning_rate", "most_heads"),
    *("tuner", "trials", "executions", "seed"),
)


class Plan(NamedTuple):
    """What a process needs to take part in a search.

    Attributes:
        choices: The content of search.json, which a resumed search must share.
        heading: Describes the search to people.
        make_tuner: Makes the tuner; reads the trials of an interrupted search.
    """

    choices: dict[str, Any]
    heading: str
    make_tuner: Callable[[tqdm], HeadsTuner]


def make_plan(options: argparse.Namespace) -> Plan:
    """Finds the data, and chooses the defaults that depend on it.

    Raises:
        ValueError, OSError: If the data is unusable, or no endpoint is large enough.
    """
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
    endpoints, too_small = fitting_endpoints(architecture, image_size, wanted)
    rate = recipe.learning_rate if options.tune_learning_rate else None
    space = Space(endpoints, options.most_heads, recipe.batch_norm, rate)

    def pictures(seed: int, first_epoch: int) -> data.Data:
        return data.load(
            source,
            image_size,
            recipe.batch_size,
            seed=seed,
            augment=recipe.augment,
            mirror=options.mirror,
            first_epoch=first_epoch,
        )

    def make_tuner(bar: tqdm) -> HeadsTuner:
        chosen = oracle(
            options.tuner,
            space,
            trials=options.trials,
            epochs=recipe.epochs,
            seed=options.seed,
        )
        hypermodel = HeadsHyperModel(
            space,
            len(source.class_names),
            image_size,
            architecture,
            steps_per_epoch=-(-len(source.train) // recipe.batch_size),
            width=options.width,
            recipe=recipe,
        )
        return HeadsTuner(
            chosen,
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
        "architecture": architecture.name,
        "image_size": image_size,
        "augment": pictures(options.seed, 0).augmentation,
        "places": list(endpoints),  # the key in the files of earlier searches
        **{name: getattr(recipe, name) for name in RECIPE_CHOICES},
        **{name: getattr(options, name) for name in OPTION_CHOICES},
    }
    return Plan(choices, heading(choices, too_small, space.paper), make_tuner)
