"""Saying in plain words what a measured gradient flow shows."""

import statistics
from collections.abc import Sequence

from keras_inception.gradients.flow import TOTAL, GradientRow
from keras_inception.outputs import MAIN

SHRUNK, VANISHED = 10, 1000  # how many times weaker at the weakest stage


def by_loss(rows: Sequence[GradientRow]) -> dict[str, dict[str, GradientRow]]:
    """Loss to stage to row, for the stages that the loss reaches; in given order."""
    found: dict[str, dict[str, GradientRow]] = {}
    for row in rows:
        stages = found.setdefault(row.loss, {})
        if row.norm > 0:
            stages[row.stage] = row
    return found


def trunk_stages(rows: Sequence[GradientRow]) -> list[str]:
    """The stages before the outputs' own: what the losses share, in network order."""
    losses = {row.loss for row in rows}
    return list(dict.fromkeys(row.stage for row in rows if row.stage not in losses))


def share_of_heads(rows: Sequence[GradientRow]) -> dict[str, float]:
    """How much of each trunk stage's gradient in training comes from the heads.

    The part of `total` along its own direction that `main` does not account for:
    `1 - main . total / |total|^2`. It exceeds 1 where main pulls against the sum.
    """
    losses = by_loss(rows)
    shares = {}
    for stage in trunk_stages(rows):
        total = losses[TOTAL].get(stage)
        if total is None:
            continue
        main = losses[MAIN].get(stage)
        along = main.norm * total.cosine_to_main if main else 0.0
        share = 1 - along / total.norm
        shares[stage] = 0.0 if abs(share) < 1e-6 else share  # float32's last digits
    return shares


def explain(rows: Sequence[GradientRow]) -> list[str]:
    """What a measurement shows, a sentence or two for each finding.

    Args:
        rows: What `gradient_flow` returned.
    """
    losses = by_loss(rows)
    heads = [loss for loss in losses if loss not in (MAIN, TOTAL)]
    trunk = [stage for stage in trunk_stages(rows) if stage in losses[MAIN]]
    findings = [_where_main_shrinks(losses[MAIN], trunk)]
    if not heads:
        findings.append(
            "This model has no auxiliary heads: every stage learns from the main loss "
            "alone."
        )
        return findings
    findings.append(_what_heads_bring(share_of_heads(rows), heads))
    findings += [_direction(losses[head], head) for head in heads]
    return findings


def _where_main_shrinks(main: dict[str, GradientRow], trunk: list[str]) -> str:
    if not trunk:
        return (
            "The main loss reaches no stage of the trunk: its gradient is zero "
            "everywhere, and only the heads teach the network anything."
        )
    first, last = trunk[0], trunk[-1]
    weakest = min(trunk, key=lambda stage: main[stage].norm)
    sizes = f"{main[last].norm:.2g} at {last}, the last stage before the classifier"
    ratio = main[last].norm / main[weakest].norm
    if ratio >= SHRUNK:
        return (
            f"The gradient of the main loss shrinks on its way back: {sizes}, "
            f"{main[weakest].norm:.2g} at {weakest}, {times(ratio)} less; the "
            f"first stage, {first}, gets {main[first].norm:.2g}."
            + (" With so little a stage hardly learns." if ratio >= VANISHED else "")
        )
    return (
        f"The gradient of the main loss has not vanished: {sizes}, "
        f"{main[weakest].norm:.2g} where it is weakest ({weakest}), and "
        f"{main[first].norm:.2g} at the first stage, {first}."
    )


def _what_heads_bring(shares: dict[str, float], heads: list[str]) -> str:
    reached = {stage: share for stage, share in shares.items() if share}
    if not reached:
        return f"The heads ({', '.join(heads)}) bring no gradient to the trunk."
    most = max(reached, key=reached.get)
    first = next(iter(shares))
    text = (
        f"Of the gradient that trains {first}, {_percent(shares[first])} comes from "
        f"the heads ({', '.join(heads)}), each with its weight in the loss"
    )
    if most != first:
        text += f"; most of all at {most}, {_percent(reached[most])}"
    beyond = [stage for stage, share in shares.items() if share == 0]
    if beyond:
        text += f". From {beyond[0]} on only the main loss counts"
    return text + "."


def _direction(head: dict[str, GradientRow], name: str) -> str:
    cosines = {
        stage: row.cosine_to_main
        for stage, row in head.items()
        if row.cosine_to_main is not None
    }
    if not cosines:
        return f"{name} and the main loss share no stage that both reach."
    mean = statistics.fmean(cosines.values())
    if mean > 0.5:
        verdict = "pulls the same way as the main loss"
    elif mean > 0.1:
        verdict = "pulls partly the same way as the main loss"
    elif mean >= -0.1:
        verdict = "pulls in a direction of its own, neither with the main loss nor"
        verdict += " against it"
    else:
        verdict = "pulls against the main loss"
    low = min(cosines, key=cosines.get)
    high = max(cosines, key=cosines.get)
    return (
        f"{name} {verdict}: the cosine between their gradients is {mean:.2f} on "
        f"average over the {len(cosines)} stages that they share, from "
        f"{cosines[low]:.2f} ({low}) to {cosines[high]:.2f} ({high})."
    )


def times(ratio: float) -> str:
    """`"3.2 times"`, `"1,500 times"`, `"6e+13 times"`."""
    if ratio >= 1e6:
        return f"{ratio:.0e} times"
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
