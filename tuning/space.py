"""What is searched: how many heads, where, with which weights, and how they are built.

The space is declared in one piece and before the first trial, since KerasTuner's
Gaussian process breaks when a space grows. All that only matters with heads is
conditional on their number.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import keras_tuner

from keras_inception.architecture import Architecture, Inception
from keras_inception.training.auxiliary_schedule import SCHEDULES
from tuning.settings import Setting, paper_setting, short, values_of

WINDOW = 5  # of a head's average pool: the paper, section 5
WEIGHTS = {"min_value": 0.01, "max_value": 1.0, "sampling": "log", "default": 0.3}
HEAD_WIDTHS = (0.25, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Space:
    """The settings that a search may try.

    Attributes:
        places: Endpoints that may have a head, in network order.
        most_heads: How many heads there are at most.
        batch_norm: Whether the network has batch normalisation, and so the paper's
            heads on it.
        learning_rate: The recipe's, to search from a tenth to three times of it;
            `None` (default): it is no matter of the search.

    Example:
    >>> space = Space(("inception_4a", "inception_4b", "inception_4d"), 2)
    >>> space.combinations(2)
    ['inception_4a inception_4b', 'inception_4a inception_4d', 'inception_4b inception_4d']
    >>> [values["heads"] for values in space.first]
    [2, 0]
    """  # noqa: E501

    places: tuple[str, ...]
    most_heads: int = 3
    batch_norm: bool = False
    learning_rate: float | None = None

    def declare(self, hp: keras_tuner.HyperParameters) -> None:
        """Declares every parameter; the defaults are the paper's setting.

        `places_2` is one choice among all pairs of places in network order, not two
        choices of a place: so no place comes twice, every pair is as likely as any
        other, and the number of parameters stays small. Neighbours in the list have
        about the same depth, which a Gaussian process takes for likeness.
        """
        most = min(self.most_heads, len(self.places))
        paper = self.paper
        hp.Int("heads", 0, most, default=len(paper.heads) if paper else most)
        for count in range(1, most + 1):
            choices = self.combinations(count)
            default = " ".join(paper.heads) if paper else choices[0]
            with hp.conditional_scope("heads", [count]):
                hp.Choice(
                    f"places_{count}",
                    choices,
                    default=default if default in choices else choices[0],
                )
        for head in range(1, most + 1):
            with hp.conditional_scope("heads", list(range(head, most + 1))):
                hp.Float(f"weight_{head}", **WEIGHTS)
        with hp.conditional_scope("heads", list(range(1, most + 1))):
            hp.Choice("schedule", list(SCHEDULES), default="constant")
            hp.Float("head_dropout", 0.0, 0.8, default=0.7)
            hp.Choice("head_width", list(HEAD_WIDTHS), default=1.0)
            hp.Boolean("head_batch_norm", default=self.batch_norm)
        if self.learning_rate is not None:
            hp.Float(
                "learning_rate",
                self.learning_rate / 10,
                self.learning_rate * 3,
                sampling="log",
                default=self.learning_rate,
            )

    def combinations(self, count: int) -> list[str]:
        """Every set of `count` places, each in network order; the shallow ones first.

        Sorted by mean depth.
        """
        sets = itertools.combinations(range(len(self.places)), count)
        return [
            " ".join(self.places[index] for index in chosen)
            for chosen in sorted(sets, key=lambda chosen: (sum(chosen), chosen))
        ]

    @property
    def paper(self) -> Setting | None:
        """The paper's setting, or `None` if its places are not in the space."""
        setting = paper_setting(self.batch_norm, self.learning_rate)
        inside = set(setting.heads) <= set(self.places) and self.most_heads >= 2
        return setting if inside else None

    @property
    def first(self) -> list[dict]:
        """What every search tries first: the paper's setting, and no heads."""
        settings = [self.paper, Setting({}, learning_rate=self.learning_rate)]
        return [values_of(setting) for setting in settings if setting is not None]


def fitting_places(
    architecture: Architecture, image_size: int, wanted: Sequence[str] | None = None
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Where a head can hang at this image size, and the places that are too small.

    A head's pool has windows of 5x5. On a smaller map `GoogLeNet` lets the window cover
    all of it, which is another head than the paper's.

    Args:
        architecture: The network.
        image_size: Side of the pictures in pixels.
        wanted: Endpoints to choose from; by default every Inception module but the
            last, behind which comes the classifier itself.

    Returns:
        The places in network order, and the side of the map at each that is too small.

    Raises:
        ValueError: If the architecture lacks an endpoint, one is named twice, or none
            is large enough.
    """
    modules = [n for n, row in architecture.rows.items() if isinstance(row, Inception)]
    candidates = modules[:-1]
    if wanted is not None:
        unknown = [name for name in wanted if name not in candidates]
        if unknown or len(set(wanted)) < len(wanted):
            raise ValueError(
                f"The places of heads are different ones of {', '.join(candidates)}: "
                f"the Inception modules of {architecture.name} but its last. "
                f"Received: {', '.join(wanted)}"
            )
        candidates = [name for name in candidates if name in wanted]
    sides, side = {}, image_size
    for name, row in architecture.rows.items():
        side = -(-side // getattr(row, "strides", 1))
        sides[name] = side
    places = tuple(name for name in candidates if sides[name] >= WINDOW)
    if not places:
        raise ValueError(
            f"At {image_size}x{image_size} pixels no place of {architecture.name} has "
            f"a map of at least {WINDOW}x{WINDOW} for a head's pool: "
            + ", ".join(f"{short(n)} has {sides[n]}x{sides[n]}" for n in candidates)
            + ". Give a larger --image-size, or another --architecture."
        )
    return places, {n: sides[n] for n in candidates if n not in places}
