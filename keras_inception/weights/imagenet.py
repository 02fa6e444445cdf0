"""The names of ImageNet's 1000 classes (ILSVRC 2012-2015), in label order."""

import csv
import functools
from importlib import resources


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Returns the WordNet id and first name of each class, in label order.

    The order is that of the ids, as in Caffe, torchvision and TF-Slim (there the labels
    start at 1; 0 is "background"). Two classes are called "crane" and two "maillot";
    their ids differ.

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
    """Returns names such as `"tench (n01440764)"` for 1000 classes, or for 1001.

    The first of 1001 classes is "background". For any other number the result is
    `None`, since a file of weights does not name its classes.
    """
    names = [f"{name} ({wordnet_id})" for wordnet_id, name in imagenet_classes()]
    if classes == len(names):
        return names
    if classes == len(names) + 1:
        return ["background", *names]
    return None
