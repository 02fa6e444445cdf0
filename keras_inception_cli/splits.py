"""The split of DATA that trained models are judged on: `--split` and its default."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from keras_inception_cli.data_options import check_class_names, find_data, list_known

if TYPE_CHECKING:
    import keras

    from keras_inception.data import Listing, Manifest, Source
    from keras_inception.data.sources import AnySplit
    from keras_inception.training import RunDirectory


class Judged(NamedTuple):
    """The pictures to judge on; `name` precedes "pictures": "test ", "" for all."""

    source: "Source"
    split: "AnySplit"
    name: str


def add_split_arguments(parser: argparse._ActionsContainer) -> None:
    """Declares `--split` and `--seed`."""
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test", "all"),
        help="the pictures to judge on (default: validation if MODEL's run learned "
        "from DATA, else all)",
    )
    add_seed_argument(parser)


def add_seed_argument(parser: argparse._ActionsContainer) -> None:
    """Declares `--seed` for commands that need a run's validation split."""
    parser.add_argument(
        "--seed",
        type=int,
        help="choose the validation split anew with this seed (default: that of "
        "MODEL's run)",
    )


def find_judged(
    options: argparse.Namespace, models: Mapping[str, "keras.Model"]
) -> Judged:
    """Finds the pictures that `--split` names, and checks the models' classes.

    The validation split is that of the first model whose run learned from DATA. Data
    that no model learned from is judged whole by default, and may lack classes.
    """
    from keras_inception.training import RunDirectory

    names = [getattr(model, "class_names", None) for model in models.values()]
    listing = list_known(options.data, next(filter(None, names), None))
    runs = filter(None, map(RunDirectory.of_model, models))
    run = next((run for run in runs if _learned_from(run, options.data, listing)), None)
    name = getattr(options, "split", None) or ("validation" if run else "all")
    dataset = manifest = None
    if run and name != "all":
        dataset = read_dataset(run)
        manifest = read_manifest(run) if listing and options.seed is None else None
    if run and options.seed is None:
        options.seed = run.read_config().seed
    # Without a choice of validation pictures a class may have a single picture.
    share = {} if run or name == "validation" else {"validation_share": 0.0}
    source = find_data(
        options, listing or dataset, whole=name == "all", manifest=manifest, **share
    )
    for model in models.values():
        check_class_names(model, source)
    if name == "all":
        return Judged(source, source.train, "")
    if name not in source.by_split:
        raise ValueError(
            f"{options.data} has no {name} split. Choose --split all, or one that it "
            f"has: {', '.join(source.by_split)}."
        )
    return Judged(source, source.by_split[name], f"{name} ")


def halves(split: "AnySplit", seed: int = 0) -> "tuple[AnySplit, AnySplit]":
    """The pictures that choose thresholds, and those that check them.

    If no class has two pictures, the same ones choose and check.
    """
    from keras_inception.early_exit.answers import stratified_halves

    chooses, checks = stratified_halves(split.labels, seed)
    return (split.take(chooses), split.take(checks)) if len(checks) else (split, split)


def for_thresholds(
    split: "AnySplit", confidence_level: float | None, seed: int | None
) -> "tuple[AnySplit, AnySplit, AnySplit]":
    """The pictures for `calibrate`, those that choose thresholds, those that check.

    With a confidence level `calibrate` divides the pictures itself, and the checks are
    its test.
    """
    chooses, checks = halves(split, 0 if confidence_level else seed or 0)
    return (split if confidence_level else chooses), chooses, checks


def read_manifest(run: "RunDirectory") -> "Manifest | None":
    """The pictures that a run learned from; `None` if it has no such list."""
    from keras_inception.data import Manifest

    return Manifest.read(run.pictures) if run.pictures.is_file() else None


def read_dataset(run: "RunDirectory") -> str | None:
    """DATA of a run that learned from a dataset of TFDS, in the version of then.

    `None` for other DATA, and for runs of earlier versions, which do not know it.
    """
    return run.read_config().settings.get("dataset")


def _learned_from(run: "RunDirectory", spec: str, listing: "Listing | None") -> bool:
    manifest = read_manifest(run)
    if manifest is not None and listing is not None:
        return manifest.matches(listing)
    learned = run.read_config().data
    if spec in (learned, read_dataset(run)):
        return True
    return Path(spec).resolve() == Path(learned).resolve()
