"""The space of settings: how many heads, where, their weights, how they are built.

The whole space is declared before the first trial, since KerasTuner's Gaussian process
fails when it grows. Parameters that need a head are conditional on the number of heads.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner

import keras_inception as ki
from keras_inception.architecture import Architecture, Inception
from keras_inception.graph import unfold
from keras_inception.supervision import endpoints_for_heads, evenly_placed
from keras_inception.training.auxiliary_schedule import SCHEDULES
from tuning.settings import ENDPOINTS, Setting, paper_setting, short, values_of

WINDOW = 5  # of a head's average pool: the paper, section 5
WEIGHTS = {"min_value": 0.01, "max_value": 1.0, "sampling": "log", "default": 0.3}
HEAD_WIDTHS = (0.25, 0.5, 1.0)
MOST_ENDPOINTS = 8  # of a network that is not a GoogLeNet, unless they are named


@dataclasses.dataclass(frozen=True)
class Space:
    """The settings that a search may try.

    Attributes:
        endpoints: Endpoints that may have a head, in network order.
        most_heads: Largest number of heads.
        batch_norm: Whether the network, and so the paper's setting, has it.
        learning_rate: The recipe's, to search from a tenth of it to three times it;
            `None`: it is not searched.

    Example:
    >>> space = Space(("inception_4a", "inception_4b", "inception_4d"), 2)
    >>> space.combinations(2)
    ['inception_4a inception_4b', 'inception_4a inception_4d', 'inception_4b inception_4d']
    >>> [values["heads"] for values in space.first]
    [2, 0]
    """  # noqa: E501

    endpoints: tuple[str, ...]
    most_heads: int = 3
    batch_norm: bool = False
    learning_rate: float | None = None

    def declare(self, hp: keras_tuner.HyperParameters) -> None:
        """Declares every parameter; the defaults are the paper's setting.

        The endpoints of two heads are one choice among all pairs in network order, not
        two choices of an endpoint: no endpoint comes twice, every pair is equally
        likely, and there are few parameters. Neighbors in the list have about the same
        depth, since the Gaussian process treats neighbors as similar.
        """
        most = min(self.most_heads, len(self.endpoints))
        paper = self.paper
        hp.Int("heads", 0, most, default=len(paper.heads) if paper else most)
        for count in range(1, most + 1):
            choices = self.combinations(count)
            default = " ".join(paper.weight_by_endpoint) if paper else ""
            with hp.conditional_scope("heads", [count]):
                default = default if default in choices else choices[0]
                hp.Choice(ENDPOINTS.format(count=count), choices, default=default)
        for head in range(1, most + 1):
            with hp.conditional_scope("heads", list(range(head, most + 1))):
                hp.Float(f"weight_{head}", **WEIGHTS)
        with hp.conditional_scope("heads", list(range(1, most + 1))):
            hp.Choice("schedule", list(SCHEDULES), default="constant")
            hp.Float("head_dropout", 0.0, 0.8, default=0.7)
            hp.Choice("head_width", list(HEAD_WIDTHS), default=1.0)
            hp.Boolean("head_batch_norm", default=self.batch_norm)
        rate = self.learning_rate
        if rate is not None:
            low, high = rate / 10, rate * 3
            hp.Float("learning_rate", low, high, sampling="log", default=rate)

    def combinations(self, count: int) -> list[str]:
        """Every set of `count` endpoints in network order, sorted by mean depth."""
        sets = itertools.combinations(range(len(self.endpoints)), count)
        return [
            " ".join(self.endpoints[index] for index in chosen)
            for chosen in sorted(sets, key=lambda chosen: (sum(chosen), chosen))
        ]

    @property
    def paper(self) -> Setting | None:
        """The paper's setting; `None` if the space does not contain it."""
        setting = paper_setting(self.batch_norm, self.learning_rate)
        endpoints = set(setting.weight_by_endpoint)
        inside = endpoints <= set(self.endpoints) and self.most_heads >= 2
        return setting if inside else None

    @property
    def first(self) -> list[dict[str, Any]]:
        """Values of every search's first trials: the paper's setting and no heads."""
        settings = [self.paper, Setting({}, learning_rate=self.learning_rate)]
        return [values_of(setting) for setting in settings if setting is not None]


def fitting_endpoints(
    architecture: Architecture, image_size: int, wanted: Sequence[str] | None = None
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Finds the endpoints whose map is large enough for the paper's head.

    A head's pool has windows of 5x5. On a smaller map `GoogLeNet` lets the window cover
    the whole map, which makes another head than the paper's. By default every Inception
    module is wanted except the last, which the classifier itself follows.

    Returns:
        The endpoints in network order; and the side of each map that is too small.
    """
    modules = [n for n, row in architecture.rows.items() if isinstance(row, Inception)]
    candidates = modules[:-1]
    if wanted is not None:
        unknown = [name for name in wanted if name not in candidates]
        if unknown or len(set(wanted)) < len(wanted):
            raise ValueError(
                f"Unknown or repeated endpoints: {', '.join(wanted)}. Choose different "
                "ones among the Inception modules of "
                f"{architecture.name} except its last: {', '.join(candidates)}"
            )
        candidates = [name for name in candidates if name in wanted]
    sides, side = {}, image_size
    for name, row in architecture.rows.items():
        side = -(-side // getattr(row, "strides", 1))
        sides[name] = side
    fitting = tuple(name for name in candidates if sides[name] >= WINDOW)
    if not fitting:
        raise ValueError(
            f"At {image_size}x{image_size} pixels no endpoint of {architecture.name} "
            f"has a map of at least {WINDOW}x{WINDOW} for a head's pool: "
            + ", ".join(f"{short(n)} has {sides[n]}x{sides[n]}" for n in candidates)
            + ". Use a larger --image-size or another --architecture."
        )
    return fitting, {n: sides[n] for n in candidates if n not in fitting}


def endpoints_of_network(
    model: keras.Model, wanted: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Finds endpoints of any classifier: those wanted, or up to 8 evenly placed.

    Returns them in network order; endpoints that do not exist or come twice are a
    `ValueError`.
    """
    if wanted is None:
        count = min(MOST_ENDPOINTS, len(endpoints_for_heads(model)))
        return tuple(evenly_placed(model, count))
    ki.attach_auxiliary(model, wanted)  # checks them
    return tuple(sorted(wanted, key=list(unfold(model).endpoints).index))
