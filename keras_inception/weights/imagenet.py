"""Names of ImageNet's 1000 classes (ILSVRC 2012-2015), in the order of the weights."""

import csv
import functools
from importlib import resources


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """WordNet id and first name of each class, by class index.

    The order is that of the ids, as in Caffe, torchvision and TF-Slim (there from 1, 0
    being "background"). Two names, "crane" and "maillot", belong to two classes each:
    the ids tell them apart.

    Source: the synsets of ILSVRC (image-net.org) and WordNet 3.0's words for them.

    Example:
    >>> imagenet_classes()[0]
    ('n01440764', 'tench')
    """
    text = resources.files(__package__).joinpath("imagenet.csv").read_text()
    return tuple(
        (row["wordnet_id"], row["name"]) for row in csv.DictReader(text.splitlines())
    )


def imagenet_class_names(classes: int) -> list[str] | None:
    """`"tench (n01440764)"` and so on for a model of 1000 or, with background, 1001.

    `None` for any other number of classes, whose meaning the file doesn't tell.
    """
    names = [f"{name} ({wordnet_id})" for wordnet_id, name in imagenet_classes()]
    if classes == len(names):
        return names
    if classes == len(names) + 1:
        return ["background", *names]
    return None
