"""`AttributionRow`: what a ledger says of each stage, in numbers and sentences."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_inception.attribution.ledger import PENALTY, Ledger
from keras_inception.outputs import MAIN


class AttributionRow(NamedTuple):
    """A loss's part in the displacement of a stage's weights.

    Attributes:
        stage: A stage's name, as in `gradients.weights_by_stage`.
        loss: `main`, a head's name, or `weight_decay` if there is any.
        share: The part of the displacement D along its own direction that is due to
            this loss, `<D_loss, D> / <D, D>`. The shares of a stage add up to 1; one
            is negative where a loss pulled against the displacement. All are 0 where
            the stage ended where it began.
        path_share: Length of the loss's own path, step by step, divided by the sum of
            these lengths over all losses; 0 where no loss moved the stage.
        cosine_to_main: Cosine of the angle between the displacements due to this loss
            and to main; `None` where one of the two is zero.
    """

    stage: str
    loss: str
    share: float
    path_share: float
    cosine_to_main: float | None


def rows_of(ledger: Ledger) -> list[AttributionRow]:
    """A row for each stage and loss, stages in network order, `main` first."""
    paths = ops.convert_to_numpy(ledger.paths).astype("float64")
    rows = []
    for number, (stage, positions) in enumerate(ledger.stages.items()):
        moved = [_joined(ledger, loss, positions) for loss in ledger.losses]
        total = np.sum(moved, axis=0)
        main = moved[ledger.losses.index(MAIN)]
        for index, (loss, own) in enumerate(zip(ledger.losses, moved, strict=True)):
            share = _ratio(own @ total, total @ total)
            path_share = _ratio(paths[index, number], paths[:, number].sum())
            norms = float(np.linalg.norm(own) * np.linalg.norm(main))
            cosine = float(own @ main) / norms if norms else None
            rows.append(AttributionRow(stage, loss, share, path_share, cosine))
    return rows


def explain_attribution(rows: Sequence[AttributionRow]) -> list[str]:
    """Sentences about who moved the first stage, and where each head moved most.

    Example:
    >>> rows = [AttributionRow("conv1", "main", 0.62, 0.5, 1.0)]
    >>> rows.append(AttributionRow("conv1", "aux_4a", 0.38, 0.5, 0.2))
    >>> explain_attribution(rows)[0]
    "Of the way that conv1 went, 62 % is due to main's loss and 38 % to aux_4a's."
    """
    first = rows[0].stage
    parts = [row for row in rows if row.stage == first]
    named = [f"{row.share:.0%}".replace("%", " %") + f" to {row.loss}" for row in parts]
    named = [name if PENALTY in name else f"{name}'s" for name in named]
    named[0] = named[0].replace(" to ", " is due to ") + " loss"
    listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    sentences = [f"Of the way that {first} went, {listed}."]
    if not any(row.share for row in parts):
        sentences = [f"{first} ended where it began: no loss has a share of its way."]
    outputs = {row.loss for row in rows}
    for head in dict.fromkeys(row.loss for row in rows):
        trunk = [row for row in rows if row.loss == head and row.stage not in outputs]
        if head in (MAIN, PENALTY) or not trunk:
            continue
        most = max(trunk, key=lambda row: row.share)
        if most.share > 0:
            sentences.append(
                f"{head} has its largest share, {100 * most.share:.0f} %, at "
                f"{most.stage}."
            )
        else:
            sentences.append(f"{head} moved no stage of the trunk along its way.")
    return sentences


def _joined(ledger: Ledger, loss: str, positions: Iterable[int]) -> np.ndarray:
    """A loss's displacement of the variables at some positions, flat, float64."""
    found = ledger.moved[loss]
    sizes = {i: math.prod(v.shape) for x in ledger.moved.values() for i, v in x.items()}
    return np.concatenate(
        [
            ops.convert_to_numpy(found[i]).ravel().astype("float64")
            if i in found
            else np.zeros(sizes[i])
            for i in positions
        ]
    )


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
