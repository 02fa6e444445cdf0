"""Sentences about a gradient flow, or about a network with and without its heads."""

import statistics
from collections.abc import Mapping, Sequence

from keras_inception.gradients.comparison import TrainingCurve
from keras_inception.gradients.flow import TOTAL, GradientRow
from keras_inception.outputs import MAIN

# How many times weaker the gradient is at its weakest stage.
SHRUNK, VANISHED = 10, 1000

# The least mean cosine to the main loss at which this is said of a head.
DIRECTIONS = {
    "pulls the same way as the main loss": 0.5,
    "pulls partly the same way as the main loss": 0.1,
    "pulls neither with the main loss nor against it": -0.1,
}


def rows_by_loss(rows: Sequence[GradientRow]) -> dict[str, dict[str, GradientRow]]:
    """Loss to stage to row, in the order of the rows; only stages the loss reaches."""
    found: dict[str, dict[str, GradientRow]] = {}
    for row in rows:
        stages = found.setdefault(row.loss, {})
        if row.norm > 0:
            stages[row.stage] = row
    return found


def trunk_stages(rows: Sequence[GradientRow]) -> list[str]:
    """The stages before those of the outputs, in network order."""
    losses = {row.loss for row in rows}
    return list(dict.fromkeys(row.stage for row in rows if row.stage not in losses))


def share_of_heads(rows: Sequence[GradientRow]) -> dict[str, float]:
    """The heads' share of the gradient that trains each trunk stage.

    It is the part of `total` along its own direction that does not come from `main`:
    `1 - main . total / |total|^2`. It exceeds 1 where main points against the total.
    """
    losses = rows_by_loss(rows)
    shares = {}
    for stage in trunk_stages(rows):
        if total := losses[TOTAL].get(stage):
            main = losses[MAIN].get(stage)
            along = main.norm * (total.cosine_to_main or 0.0) if main else 0.0
            share = 1 - along / total.norm
            shares[stage] = 0.0 if abs(share) < 1e-6 else share  # rounding of float32
    return shares


def explain(rows: Sequence[GradientRow]) -> list[str]:
    """Explains the result of `gradient_flow`, a sentence or two for each finding."""
    losses = rows_by_loss(rows)
    heads = [loss for loss in losses if loss not in (MAIN, TOTAL)]
    trunk = [stage for stage in trunk_stages(rows) if stage in losses[MAIN]]
    main = _explain_main(losses[MAIN], trunk)
    if not heads:
        return [main, "The model has no auxiliary heads: main alone trains it."]
    shares = _explain_shares(share_of_heads(rows), heads)
    return [main, shares, *(_explain_direction(losses[head], head) for head in heads)]


def explain_comparison(curves: Mapping[str, TrainingCurve]) -> list[str]:
    """Explains the result of `compare_without_heads`, a sentence for each finding."""
    with_heads, without = curves["with heads"], curves["without heads"]
    steps = len(with_heads.main_losses)
    texts = [
        f"Two copies began with the same weights and trained on the same {steps} "
        "batches, one with the heads' losses added and one without."
    ]
    for when, rows, rows_without in (
        ("At the initial weights", with_heads.before, without.before),
        ("At the end", with_heads.after, without.after),
    ):
        first, row = next(iter(rows_by_loss(rows)[TOTAL].items()))
        plain = rows_by_loss(rows_without)[TOTAL].get(first)
        texts.append(
            f"{when} the first stage, {first}, gets {row.norm:.2g} with heads and "
            f"{plain.norm:.2g} without: {_times(row.norm / plain.norm)} as much."
            if plain
            else f"{when} the first stage, {first}, gets no gradient without heads."
        )
    tail = max(1, steps // 10)
    losses = [statistics.fmean(c.main_losses[-tail:]) for c in (with_heads, without)]
    texts.append(
        f"The main loss over the last {tail} batches was {losses[0]:.3f} with heads "
        f"and {losses[1]:.3f} without. These are training batches of one run with one "
        "seed. To see the heads' effect on validation accuracy, train both networks to "
        "the end with several seeds."
    )
    return texts


def _explain_main(main: Mapping[str, GradientRow], trunk: Sequence[str]) -> str:
    if not trunk:
        return "The main loss reaches no stage of the trunk: the heads alone train it."
    first, last = trunk[0], trunk[-1]
    weakest = min(trunk, key=lambda stage: main[stage].norm)
    sizes = f"{main[last].norm:.2g} at {last}, the last stage before the classifier"
    ratio = main[last].norm / main[weakest].norm
    least, at_first = f"{main[weakest].norm:.2g}", f"{main[first].norm:.2g}"
    if ratio < SHRUNK:
        return (
            f"The gradient of the main loss has not vanished: {sizes}, {least} where "
            f"it is weakest ({weakest}), and {at_first} at the first stage, {first}."
        )
    return (
        f"The gradient of the main loss shrinks on its way back: {sizes}, {least} at "
        f"{weakest}, {_times(ratio)} less; the first stage, {first}, gets {at_first}."
        + (" A stage hardly learns from so little." if ratio >= VANISHED else "")
    )


def _explain_shares(shares: Mapping[str, float], heads: Sequence[str]) -> str:
    reached = {stage: share for stage, share in shares.items() if share}
    if not reached:
        return f"The heads ({', '.join(heads)}) send no gradient to the trunk."
    most = max(reached, key=reached.__getitem__)
    first = next(iter(shares))
    text = (
        f"Of the gradient that trains {first}, {100 * shares[first]:.0f} % comes from "
        f"the heads ({', '.join(heads)}), each with its weight in the loss"
    )
    if most != first:
        text += f"; the largest share is {100 * reached[most]:.0f} %, at {most}"
    stages = list(shares)
    if beyond := stages[stages.index([*reached][-1]) + 1 :]:
        text += f". From {beyond[0]} on only the main loss counts"
    return text + "."


def _explain_direction(head: Mapping[str, GradientRow], name: str) -> str:
    cosines = {s: c for s, row in head.items() if (c := row.cosine_to_main) is not None}
    if not cosines:
        return f"{name} and the main loss share no stage that both reach."
    mean = statistics.fmean(cosines.values())
    fitting = (text for text, least in DIRECTIONS.items() if mean >= least)
    direction = next(fitting, "pulls against the main loss")
    low, high = (end(cosines, key=cosines.__getitem__) for end in (min, max))
    return (
        f"{name} {direction}: the cosine between their gradients is {mean:.2f} on "
        f"average over the {len(cosines)} stages that they share, from "
        f"{cosines[low]:.2f} ({low}) to {cosines[high]:.2f} ({high})."
    )


def _times(ratio: float) -> str:
    """`"3.2 times"`, `"1,500 times"`, `"6e+13 times"`."""
    if ratio >= 1e6:
        return f"{ratio:.0e} times"
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"
